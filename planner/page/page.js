"use strict";
// Unpacks plotly.js, draws every figure in the page's own colours, and again where light and dark change.
(async () => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 560px)");
  const named = /^var\((--[a-z0-9-]+)\)$/;

  function coloured(value, style) {
    if (typeof value === "string") {
      const found = named.exec(value);
      return found ? style.getPropertyValue(found[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((one) => coloured(one, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, coloured(one, style)]));
  }

  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return await new Response(stream).text();
  }

  async function draw() {
    const style = getComputedStyle(root);
    for (const place of document.querySelectorAll(".chart")) {
      const figure = coloured(JSON.parse(place.nextElementSibling.textContent), style);
      figure.layout.font.family = style.fontFamily;
      if (narrow.matches) figure.layout.margin = { l: 40, r: 4, t: 8, b: 40 };
      const config = { responsive: true, displayModeBar: false };
      await window.Plotly.react(place, figure.data, figure.layout, config);
    }
  }

  try {
    const script = document.createElement("script");
    script.textContent = await unpacked(document.getElementById("library").textContent);
    document.head.append(script);
    await draw();
    dark.addEventListener("change", draw);
    narrow.addEventListener("change", draw);
    root.dataset.drawn = "yes";
  } catch (error) {
    for (const place of document.querySelectorAll(".chart")) {
      place.classList.add("missing");
      place.textContent = "This browser cannot draw the charts; a newer one can.";
    }
    root.dataset.drawn = "no";
    console.error(error);
  }
})();
