import { defineConfig } from "vite";

// Three documents of one bundle: the app by itself, the widget, which other sites may frame, and the recovery PIN.
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    // The client of call servers, which is loaded by who enters a call over one.
    chunkSizeWarningLimit: 600,
    rollupOptions: { input: ["app/index.html", "widget/index.html", "recover/index.html"] },
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
});
