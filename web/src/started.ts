/** The page is there: what stood in its place goes, and start.js hears of it. */
export function started(root: HTMLElement): void {
  for (const each of root.querySelectorAll(":scope > .starting, :scope > .late")) each.remove();
  dispatchEvent(new Event("superapp.started"));
}
