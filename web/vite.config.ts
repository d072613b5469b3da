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
    rollupOptions: { input: ["app/index.html", "widget/index.html", "recover/index.html"] },
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
});
