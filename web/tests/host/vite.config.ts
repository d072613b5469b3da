import { defineConfig } from "vite";

// The page of the browser tests that stands for a client; it is no part of the product.
export default defineConfig({
  root: "tests/host",
  base: "./",
  build: { target: "es2022", outDir: "../../../build/web-host", emptyOutDir: true },
});
