// Watches over the first load. When a file of the page gets lost on the way a browser leaves the page empty; so it is
// loaded again, twice at most, and after that the page offers to (the words are in the document itself).
(() => {
  const COUNT = "superapp.loads";
  const AGAIN_MS = 1000;

  addEventListener(
    "error",
    (event) => {
      const lost = event.target;
      if (!(lost instanceof HTMLScriptElement || (lost instanceof HTMLLinkElement && lost.rel === "stylesheet"))) return;
      let loads = 2;
      try {
        loads = Number(sessionStorage.getItem(COUNT) ?? 0);
        sessionStorage.setItem(COUNT, String(loads + 1));
      } catch {
        // Where nothing may be kept, nothing would end the loading.
      }
      if (loads < 2) setTimeout(() => location.reload(), AGAIN_MS);
      else document.documentElement.dataset.late = "";
    },
    true,
  );

  // It began: what gets lost later is said by the app itself.
  addEventListener("superapp.started", () => {
    try {
      sessionStorage.removeItem(COUNT);
    } catch {
      // Then nothing was counted.
    }
  });
})();
