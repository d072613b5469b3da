// The service worker is there for opening the app without a connection. Everything works without it too.

const NAME = "superapp-worker";

/** Trusted Types (W3C), as far as they are needed here. */
interface PolicyFactory {
  createPolicy: (
    name: string,
    rules: { createScriptURL: (url: string) => string },
  ) => {
    createScriptURL: (url: string) => string;
  };
}

export async function registerWorker(): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  const address = new URL("../sw.js", document.baseURI).href;
  const { trustedTypes } = window as { trustedTypes?: PolicyFactory };
  const policy = trustedTypes?.createPolicy(NAME, {
    createScriptURL: (url) => {
      if (url !== address) throw new TypeError(url);
      return url;
    },
  });
  await navigator.serviceWorker.register(policy?.createScriptURL(address) ?? address, {
    scope: new URL("./", document.baseURI).href,
  });
}
