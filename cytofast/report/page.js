"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== null) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };

  // --- figures ---
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colours = (printing) => (dark.matches && !printing
    ? { ink: "#e4e8eb", grid: "#333c44", zero: "#5a656e", label: "#262e35" }
    : { ink: "#1f262c", grid: "#dfe3e6", zero: "#b9c0c6", label: "#ffffff" });
  const themed = (layout, printing = false) => {
    const c = colours(printing);
    const changes = {
      "font.color": c.ink, "paper_bgcolor": "rgba(0,0,0,0)", "hoverlabel.bgcolor": c.label, "hoverlabel.font.color": c.ink,
      "modebar.bgcolor": "rgba(0,0,0,0)", "modebar.color": c.zero, "modebar.activecolor": c.ink,
    };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) Object.assign(changes, { [`${key}.gridcolor`]: c.grid, [`${key}.zerolinecolor`]: c.zero });
    }
    return changes;
  };
  const put = (target, path, value) => {
    const keys = path.split(".");
    const last = keys.pop();
    let at = target;
    for (const key of keys) at = at[key] ??= {};
    at[last] = value;
  };
  const height = (layout, width) => {
    const meta = layout.meta || {};
    return meta.ratio ? Math.round(width * meta.ratio) + meta.extra : layout.height;
  };
  const plots = [];
  const draw = (box) => {
    const { data, layout, words } = read(`figure-${box.dataset.name}`);
    for (const trace of data) {
      if (trace.type === "heatmap" && trace.text) trace.text = trace.text.map((row) => row.map((code) => words[code]));
    }
    const menus = layout.updatemenus || [];
    delete layout.updatemenus;
    for (const [path, value] of Object.entries(themed(layout))) put(layout, path, value);
    const { least, most } = layout.meta || {};
    box.style.minWidth = `${least || 0}px`;
    if (most) box.style.maxWidth = `${Math.max(most, least || 0)}px`;
    layout.height = height(layout, box.clientWidth);
    layout.autosize = true;
    const options = {
      responsive: true, displaylogo: false,
      // Named one by one, and no server: Plotly's own choice has a button that uploads the figure with its data.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]], plotlyServerURL: "",
      toImageButtonOptions: { format: "svg", filename: box.dataset.name },
    };
    Plotly.newPlot(box, data, layout, options);
    box.style.minHeight = "";
    plots.push(box);
    for (const menu of menus) {
      const choose = element("select", { onchange: (event) => {
        const [traces, changes, which] = menu.buttons[event.target.value].args;
        Plotly.update(box, structuredClone(traces), structuredClone(changes), which);
      } });
      menu.buttons.forEach((button, index) => choose.append(element("option", { value: index }, button.label)));
      box.parentElement.before(element("label", { class: "choose" }, "Show ", choose));
    }
  };
  const restyle = (printing) => {
    for (const box of plots) {
      const changes = themed(box.layout, printing);
      const width = printing ? 690 : box.clientWidth;
      if (printing) changes.width = width;
      else Object.assign(changes, { width: null, autosize: true });
      changes.height = height(box.layout, width);
      Plotly.relayout(box, changes);
    }
  };
  dark.addEventListener("change", () => restyle(false));
  addEventListener("beforeprint", () => restyle(true));
  addEventListener("afterprint", () => restyle(false));
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const box of plots) {
        const wanted = height(box.layout, box.clientWidth);
        if (wanted !== box.layout.height) Plotly.relayout(box, { height: wanted });
      }
    }, 150);
  });

  // --- tables ---
  const unpacked = (column) => {
    if (column.packed) {
      const bytes = Uint8Array.from(atob(column.packed), (letter) => letter.charCodeAt(0));
      return Array.from(new Float32Array(bytes.buffer), (value) => (Number.isFinite(value) ? Number(value.toPrecision(6)) : null));
    }
    return column.words ? column.values.map((code) => (code === null ? null : column.words[code])) : column.values;
  };
  const shown = (value, number) => {
    if (value === null) return "";
    if (!number) return String(value);
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : value.toPrecision(4).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  };
  const quoted = (value) => {
    const text = value === null ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const grid = (box) => {
    const name = box.dataset.table;
    const given = read(`table-${name}`);
    const columns = given.columns.map((column) => ({ ...column, values: unpacked(column) }));
    const texts = Array.from({ length: given.rows }, (_, row) => columns.map((column) => column.values[row] ?? "").join(" ").toLowerCase());
    const state = { rows: texts.map((_, row) => row), most: 50, by: null, down: false };
    const body = element("tbody");
    const count = element("output", { "aria-live": "polite" });
    const more = element("button", { type: "button", onclick: () => { state.most += 200; fill(); } }, "Show more");
    const cell = (column, row) => {
      const text = shown(column.values[row], column.number);
      return element("td", { class: column.number ? "number" : text.length <= 40 ? "short" : null }, text);
    };
    const fill = () => {
      body.replaceChildren(...state.rows.slice(0, state.most).map((row) => element("tr", {}, ...columns.map((column) =>
        cell(column, row)))));
      const rest = state.rows.length - Math.min(state.most, state.rows.length);
      count.textContent = `${state.rows.length.toLocaleString("en")} of ${given.rows.toLocaleString("en")} rows`;
      more.hidden = rest === 0;
    };
    const order = () => {
      if (state.by === null) return;
      const { values, number } = columns[state.by];
      const sign = state.down ? -1 : 1;
      state.rows.sort((a, b) => {
        const [one, other] = [values[a], values[b]];
        if (one === null || other === null) return (one === null) - (other === null) || a - b;
        return sign * (number ? one - other : String(one).localeCompare(String(other), "en", { numeric: true })) || a - b;
      });
    };
    const search = element("input", { type: "search", placeholder: "Search", "aria-label": `Search ${box.dataset.title}`, oninput: (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      state.rows = texts.map((_, row) => row).filter((row) => words.every((word) => texts[row].includes(word)));
      state.most = 50;
      order();
      fill();
    } });
    const save = element("button", { type: "button", onclick: () => {
      const lines = [columns.map((column) => quoted(column.name)).join(",")];
      for (let row = 0; row < given.rows; row += 1) lines.push(columns.map((column) => quoted(column.values[row])).join(","));
      const link = element("a", { href: URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" })), download: `${name}.csv` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } }, "Download CSV");
    const heads = columns.map((column, index) => element("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": "none" },
      element("button", { type: "button", onclick: () => {
        state.down = state.by === index ? !state.down : false;
        state.by = index;
        heads.forEach((head, at) => head.setAttribute("aria-sort", at === index ? (state.down ? "descending" : "ascending") : "none"));
        order();
        fill();
      } }, column.name)));
    box.replaceChildren(
      element("div", { class: "tools" }, ...(given.rows > 8 ? [search] : []), save, count),
      element("div", { class: "grid" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body)),
      element("div", { class: "tools" }, more),
    );
    fill();
  };

  for (const box of document.querySelectorAll("[data-table]")) {
    const folded = box.closest("details:not([open])");
    if (folded) folded.addEventListener("toggle", () => grid(box), { once: true });
    else grid(box);
  }
  const queue = [...document.querySelectorAll(".plot")];
  const next = () => {
    const box = queue.shift();
    if (box === undefined) {
      document.documentElement.dataset.drawn = String(plots.length);
      return;
    }
    draw(box);
    setTimeout(next, 0);
  };
  next();
})();
