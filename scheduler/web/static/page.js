// Draws the curves, brushes the parallel coordinates, and follows the log. What is shown is decided on the server.
"use strict";
(() => {
  // Told apart by dashes and by the number at their end, not by colour alone.
  const dashes = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  const light = ["#0b57a4", "#a8201a", "#1b6e33", "#7a4d00", "#6a2c91", "#00606b", "#8a2560", "#3d4a57"];
  const dark = ["#86bdf5", "#ff9d96", "#7fd596", "#f0c674", "#cfa6ee", "#6fd3de", "#f59ac6", "#c2ccd6"];
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const styleOf = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plots = new Map();

  function ends(plot, ctx = plot.ctx) {
    ctx.save();
    ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    const found = [];
    plot.series.forEach((series, index) => {
      if (!index || !series.show) return;
      let last = plot.data[index].length - 1;
      while (last >= 0 && plot.data[index][last] == null) last--;
      if (last < 0) return;
      found.push({ series, x: plot.valToPos(plot.data[0][last], "x", true), y: plot.valToPos(plot.data[index][last], "y", true) });
    });
    // From the lowest up, each as near to its line's end as those below it let it be; then down from the top.
    // Only what is above or below a label takes its place, not what is beside it.
    const room = 13 * devicePixelRatio, gap = 5 * devicePixelRatio;
    found.forEach(one => { one.until = one.x + gap + ctx.measureText(one.series.label).width; });
    const taken = (one, others) => others.filter(other => other.x < one.until && one.x < other.until).map(other => other.at);
    found.sort((a, b) => b.y - a.y).forEach((one, index) => {
      const below = taken(one, found.slice(0, index)).map(at => at - room);
      one.at = Math.min(one.y, plot.bbox.top + plot.bbox.height, ...below);
    });
    found.reverse().forEach((one, index) => {
      const above = taken(one, found.slice(0, index)).map(at => at + room);
      one.at = Math.max(one.at, room / 2, ...above);
      ctx.fillStyle = typeof one.series._stroke === "string" ? one.series._stroke : styleOf("--ink");
      ctx.fillText(one.series.label, one.x + gap, one.at);
    });
    ctx.restore();
  }

  function aligned(series) {
    const xs = [...new Set(series.flatMap(one => one.points.map(point => point[0])))].sort((a, b) => a - b);
    return [xs, ...series.map(one => {
      const at = new Map(one.points);
      return xs.map(x => at.has(x) ? at.get(x) : null);
    })];
  }

  // Four digits without an exponent, as on the other drawings.
  const plain = value => {
    if (!value) return "0";
    const digits = Math.min(20, Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value)))));
    return value.toLocaleString("en", { maximumFractionDigits: digits });
  };

  // What spans decades, such as a loss, is drawn on a logarithmic axis: else all but the first epochs are one flat line.
  const DECADES = 20;
  function spansDecades(series) {
    const values = series.flatMap(one => one.points.map(point => point[1]));
    const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    return low > 0 && high / low >= DECADES;
  }

  // The marks of a logarithmic axis: 1, 2, 5, 10, or the powers of ten alone.
  function decades(plot, marks) {
    const { min, max } = plot.scales.y, heads = max / min > 60 ? [1] : [1, 2, 5];
    return marks.map(one => heads.includes(Math.round(one / 10 ** Math.floor(Math.log10(one) + 1e-9))) ? one : null);
  }

  function bestEpoch(at) {
    return plot => {
      if (at == null) return;
      const { ctx, bbox } = plot, x = Math.round(plot.valToPos(at, "x", true));
      ctx.save();
      ctx.strokeStyle = styleOf("--good");
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.fillStyle = styleOf("--good");
      ctx.textAlign = x > bbox.left + bbox.width / 2 ? "right" : "left";
      ctx.fillText("best epoch", x, bbox.top - 5 * devicePixelRatio);
      ctx.restore();
    };
  }

  // The legend tells values only where the pointer is.
  const point = plot => plot.root.classList.toggle("pointed", plot.cursor.idx != null);

  function draw(box, name, panel) {
    const data = aligned(panel.series), log = spansDecades(panel.series);
    const key = JSON.stringify([darkness.matches, log, panel.room, panel.best_epoch, panel.series.map(one => one.label)]);
    const old = plots.get(name);
    if (old && old.key === key && old.plot.root.isConnected) return old.plot.setData(data);
    if (old) { old.plot.destroy(); old.place.remove(); }
    const place = box.appendChild(document.createElement("div"));
    place.dataset.log = log ? "1" : "0";
    const colours = darkness.matches ? dark : light;
    const axis = { stroke: styleOf("--ink"), grid: { stroke: styleOf("--line"), width: 1 }, ticks: { stroke: styleOf("--line"), width: 1 } };
    const filter = log ? { filter: decades } : {}, grid = { ...axis.grid, ...filter }, ticks = { ...axis.ticks, ...filter };
    const plot = new uPlot({
      width: Math.max(280, box.clientWidth), height: 280, padding: [20, panel.room, 0, 0],
      scales: { x: { time: false }, y: log ? { distr: 3 } : {} },
      axes: [{ ...axis, label: panel.x, space: 30, incrs: [1, 2, 5].flatMap(n => [n, 10 * n, 100 * n, 1000 * n]).sort((a, b) => a - b) }, {
        ...axis, ...filter, grid, ticks, size: 76, label: panel.metric + (log ? " (logarithmic)" : ""),
        values: (_, marks) => marks.map(one => one == null ? "" : plain(one)),
      }],
      series: [{ label: panel.x }, ...panel.series.map((one, index) => ({
        label: one.label, stroke: colours[index % colours.length], width: 2, spanGaps: true,
        dash: dashes[Math.floor(index / 2) % dashes.length],
        points: { show: one.points.length < 3 },
        value: (_, value) => value == null ? "–" : value.toPrecision(5),
      }))],
      hooks: { draw: [bestEpoch(panel.best_epoch), ends], setLegend: [point] },
    }, data, place);
    plots.set(name, { key, plot, place });
  }

  async function curves(box) {
    const query = box.dataset.fixed ? "" : location.search;
    let found;
    try {
      const answer = await fetch(box.dataset.curves + query);
      if (!answer.ok) throw new Error(answer.status);
      found = await answer.json();
    } catch {
      if (!box.querySelector(".uplot")) box.textContent = "The curves could not be loaded; they are tried again with the next change.";
      return;
    }
    const panels = (found.panels || [found]).filter(panel => panel.series.some(one => one.points.length));
    if (!panels.length) {
      if (!box.querySelector(".uplot")) box.textContent = "No epoch is on record yet.";
      return;
    }
    if (!box.querySelector(".uplot")) box.textContent = "";
    // Charts one below the other have the same room for the labels at their right.
    const longest = Math.max(...panels.flatMap(panel => panel.series.map(one => Math.min(one.label.length, 24))));
    panels.forEach((panel, index) => draw(box, `${box.id}/${index}`, { ...panel, room: 16 + 8 * longest, best_epoch: found.best_epoch }));
  }

  const redraw = () => document.querySelectorAll("[data-curves]").forEach(curves);

  // The brush: a stretch of an axis, kept in the address as within=NAME:LOW:HIGH, or is=NAME:LABEL for words.
  const TOP = 40, HEIGHT = 220;
  let brushing = false;
  const shareAt = (svg, event) => {
    const y = (event.clientY - svg.getBoundingClientRect().top) * 300 / svg.getBoundingClientRect().height;
    const share = 1 - (y - TOP) / HEIGHT;
    return share < 0.02 ? 0 : share > 0.98 ? 1 : share; // the ends are easy to hit
  };
  const valueAt = (axis, share) => {
    // The ends as they are: rounded, they would leave out the trials that lie there.
    if (share === 0) return axis.dataset.low;
    if (share === 1) return axis.dataset.high;
    const low = +axis.dataset.low, high = +axis.dataset.high;
    return (axis.dataset.log === "1" ? low * (high / low) ** share : low + (high - low) * share).toPrecision(6);
  };

  function brush(svg) {
    svg.querySelectorAll(".axis").forEach(axis => {
      const handle = axis.querySelector(".brush");
      handle.addEventListener("pointerdown", event => {
        event.preventDefault();
        brushing = true;
        handle.setPointerCapture(event.pointerId);
        const from = shareAt(svg, event);
        let to = from;
        axis.querySelector(".chosen")?.remove();
        const shown = axis.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "rect"));
        shown.setAttribute("class", "chosen");
        const move = next => {
          to = shareAt(svg, next);
          const [low, high] = [Math.min(from, to), Math.max(from, to)];
          shown.setAttribute("x", handle.getAttribute("x"));
          shown.setAttribute("width", handle.getAttribute("width"));
          shown.setAttribute("y", TOP + HEIGHT * (1 - high));
          shown.setAttribute("height", HEIGHT * (high - low));
          svg.querySelectorAll(".line").forEach(line => {
            const at = +line.dataset.at.split(" ")[axis.dataset.index];
            line.classList.toggle("out", at < low || at > high);
          });
        };
        const end = () => {
          handle.removeEventListener("pointermove", move);
          keep(axis, Math.min(from, to), Math.max(from, to));
        };
        handle.addEventListener("pointermove", move);
        handle.addEventListener("pointerup", end, { once: true });
        handle.addEventListener("pointercancel", end, { once: true });
      });
    });
  }

  function keep(axis, low, high) {
    brushing = false;
    const query = new URLSearchParams(location.search);
    const labels = JSON.parse(axis.dataset.labels);
    const kind = labels.length ? "is" : "within";
    const others = query.getAll(kind).filter(one => !one.startsWith(axis.dataset.name + ":"));
    [kind, "page", "variants", "axis", "from", "to"].forEach(name => query.delete(name));
    others.forEach(one => query.append(kind, one));
    if (labels.length) {
      const at = index => labels.length > 1 ? index / (labels.length - 1) : 0.5;
      const inside = labels.filter((_, index) => at(index) >= low && at(index) <= high);
      inside.forEach(label => query.append("is", `${axis.dataset.name}:${label}`));
    } else if (high - low > 0.01) {
      query.append("within", `${axis.dataset.name}:${valueAt(axis, low)}:${valueAt(axis, high)}`);
    }
    location.assign(`${location.pathname}?${query}#parallel`);
  }

  const prepare = () => document.querySelectorAll("svg.parallel:not([data-ready])").forEach(svg => {
    svg.dataset.ready = "1";
    brush(svg);
  });

  let atEnd = true, missed = false;
  const log = () => document.querySelector("pre.log");
  document.addEventListener("DOMContentLoaded", () => {
    redraw();
    prepare();
    if (log()) log().scrollTop = log().scrollHeight;
    document.body.addEventListener("htmx:configRequest", event => {
      if (event.target.id !== "follow") return;
      // Nothing is swapped from under a pointer, and a hidden tab asks when it is looked at again.
      missed = brushing || document.hidden;
      if (missed) event.preventDefault();
      event.detail.path = location.pathname + location.search;
    });
    document.body.addEventListener("htmx:beforeSwap", () => {
      const shown = log();
      atEnd = !shown || shown.scrollTop + shown.clientHeight > shown.scrollHeight - 30;
    });
    document.body.addEventListener("htmx:afterRequest", event => {
      if (event.target.id !== "follow") return;
      redraw();
      setTimeout(() => { prepare(); if (log() && atEnd) log().scrollTop = log().scrollHeight; }, 60);
    });
  });
  document.addEventListener("visibilitychange", () => {
    if (missed && !document.hidden) htmx.trigger("#follow", "sse:changed");
  });
  darkness.addEventListener("change", redraw);
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => plots.forEach(({ plot, place }) => {
      plot.setSize({ width: Math.max(280, place.parentElement.clientWidth), height: 280 });
    }), 150);
  });
})();
