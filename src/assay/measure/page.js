// What every page of ours does by itself: tables that sort, filter and download, charts that are drawn by Plotly.
"use strict";
const assay = {
  number(cell) {
    const found = cell.textContent.replaceAll(",", "").match(/-?\d+(\.\d+)?/);
    return found ? parseFloat(found[0]) : NaN;
  },
  sort(table, column, head) {
    const down = !head.classList.contains("down"), body = table.tBodies[0], rows = [...body.rows];
    const numbers = rows.map(row => assay.number(row.cells[column])), numeric = numbers.some(n => !isNaN(n));
    const key = row => numeric && column > 0 ? assay.number(row.cells[column]) : row.cells[column].textContent.trim().toLowerCase();
    rows.sort((a, b) => {
      const x = key(a), y = key(b);
      if (typeof x === "number" && (isNaN(x) || isNaN(y))) return isNaN(x) - isNaN(y);  // what has none stands last
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    });
    body.append(...rows);
    for (const other of table.tHead.rows[0].cells) other.classList.remove("up", "down");
    head.classList.add(down ? "down" : "up");
  },
  csv(table) {
    const quoted = cell => {
      const text = cell.textContent.trim().replace(/\s+/g, " "), safe = /^[=+@\t]|^-(?![\d.])/.test(text) ? "'" + text : text;
      return /[",\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
    };
    return [...table.rows].map(row => [...row.cells].map(quoted).join(",")).join("\r\n") + "\r\n";
  },
  save(table, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", assay.csv(table)], { type: "text/csv" }));
    link.download = name + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  },
  dress(box) {
    const table = box.querySelector("table"), tools = document.createElement("div"), count = table.tBodies[0] ? table.tBodies[0].rows.length : 0;
    tools.className = "tools";
    if (count > 2) [...table.tHead.rows[0].cells].forEach((head, i) => {
      if (!head.textContent.trim()) return;
      head.classList.add("sorts");
      head.tabIndex = 0;
      head.onclick = () => assay.sort(table, i, head);
      head.onkeydown = event => { if (event.key === "Enter") head.onclick(); };
    });
    if (count > 8) {
      const find = document.createElement("input");
      find.type = "search";
      find.placeholder = "find among " + count;
      find.setAttribute("aria-label", "find in the table " + box.dataset.name);
      find.oninput = () => {
        for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(find.value.trim().toLowerCase());
      };
      tools.append(find);
    }
    if (count > 1) {
      const button = document.createElement("button");
      button.textContent = "CSV";
      button.title = "download this table";
      button.onclick = () => assay.save(table, box.dataset.name);
      tools.append(button);
    }
    if (tools.children.length) box.prepend(tools);
  },
  library() { return assay.loaded ||= assay.load(); },
  async load() {
    const packed = document.getElementById("plotly");
    if (!packed || window.Plotly) return;
    const bytes = Uint8Array.from(atob(packed.textContent.trim()), c => c.charCodeAt(0));
    const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  },
  tone(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); },
  toned(value) {  // $dot and its like stand for colours of the page, light or dark
    if (Array.isArray(value)) return value.map(assay.toned);
    if (!value || typeof value !== "object") return value;
    const named = (key, one) => key === "color" && typeof one === "string" && one.startsWith("$") ? assay.tone(one.slice(1)) : assay.toned(one);
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, named(key, one)]));
  },
  wrapped(text, width) {
    const most = Math.max(20, Math.floor(width / 8)), lines = [""];
    for (const word of text.split(" ")) {
      if (lines.at(-1) && lines.at(-1).length + word.length >= most) lines.push(word); else lines.push((lines.pop() + " " + word).trim());
    }
    return lines.join("<br>");
  },
  axis(common, own) { return { ...common, ...own, title: { text: own && own.title ? own.title : "", standoff: 8 } }; },
  draw(box) {
    const spec = assay.toned(JSON.parse(document.getElementById(box.id + "-spec").textContent)), grid = assay.tone("line"), text = assay.tone("text");
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true, fixedrange: true };
    const layout = { font: { family: "system-ui, sans-serif", size: 12, color: text }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 48, r: 12, t: 34, b: 40 }, hoverlabel: { align: "left" }, legend: { orientation: "h", y: -0.25 }, ...spec.layout,
      title: { text: assay.wrapped(spec.layout.title, box.clientWidth), x: 0, xanchor: "left", font: { size: 14, color: assay.tone("ink") } },
      xaxis: assay.axis(axis, spec.layout.xaxis), yaxis: assay.axis(axis, spec.layout.yaxis) };
    return Plotly.newPlot(box, spec.data, layout, { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtons: [["toImage"]] });
  },
  async start() {
    document.querySelectorAll(".table").forEach(assay.dress);
    await assay.library();
    for (const box of document.querySelectorAll(".chart")) {
      try { await assay.draw(box); } catch (error) { box.textContent = "This chart cannot be drawn: " + error.message; }
    }
    document.documentElement.dataset.drawn = "yes";
  },
};
addEventListener("DOMContentLoaded", assay.start);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.querySelectorAll(".chart").forEach(assay.draw));
