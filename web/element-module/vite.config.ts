import { defineConfig } from "vite";

// One file, which Element loads by its name in config.json. Nothing of Element's is in it, React neither.
export default defineConfig({
  root: import.meta.dirname,
  publicDir: false,
  build: {
    target: "es2022",
    emptyOutDir: false,
    sourcemap: false,
    lib: { entry: "src/index.ts", formats: ["es"], fileName: () => "element/super-app.js" },
  },
});
