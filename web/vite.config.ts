import { defineConfig } from "vite";

// Two documents of one bundle: the app by itself, and the widget, which other sites may frame.
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    rollupOptions: { input: ["app/index.html", "widget/index.html"] },
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
});
