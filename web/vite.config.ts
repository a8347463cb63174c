import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// One page, no requests to anywhere else; names hold a hash of what is in them.
export default defineConfig({
  plugins: [svelte()],
  base: "/",
  build: {
    outDir: "../src/frisket/studio/static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // the policy of the page allows no data: scripts
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
  },
  resolve: process.env.VITEST ? { conditions: ["browser"] } : {},
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
