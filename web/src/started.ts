/** Tell start.js that the page is there. */
export function started(): void {
  dispatchEvent(new Event("superapp.started"));
}
