// A plot over time, with marks for what happened. Drawn by uPlot (uPlot.LICENSE).
import { el } from "./dom.js";
import { clock, hue } from "./format.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
/** Colours in the page's style follow light and dark; a canvas wants them resolved. */
function colour(name) {
  const probe = el("span", null);
  probe.style.color = css(name);
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** Makes a plot in a box. `update(times, rows, marks)` shows other data: a row for each name. */
export function chart({ title, unit, names, sync }) {
  const box = el("figure", { class: "plot" }, el("figcaption", null, title));
  const plane = el("div", { role: "img", "aria-label": title });
  box.append(plane);
  let marks = [];
  const line = colour("--line");
  const text = colour("--quiet");
  const kinds = { bad: colour("--bad"), warn: colour("--warn"), good: colour("--accent") };
  const axis = { stroke: text, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: `12px ${css("--font")}` };
  const drawMarks = (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const mark of marks) {
      const x = Math.round(plot.valToPos(mark.time, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = kinds[mark.kind] ?? text;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  };
  const plot = new uPlot({
    width: 320,
    height: 170,
    legend: { show: true, live: true },
    cursor: { sync: { key: sync }, drag: { x: false, y: false } },
    scales: { x: { time: true }, y: { range: (_, min, max) => [0, max > 0 ? max * 1.1 : 1] } },
    axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => clock(tick * 1000)) }, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => `${tick}${unit}`) }],
    series: [{ value: (_, at) => (at ? clock(at * 1000) : "–") }, ...names.map((name) => ({
      label: name, stroke: colour(`--hue${hue(name)}`), width: 2, points: { show: false }, spanGaps: false,
      value: (_, value) => (value === null || value === undefined ? "–" : `${Number(value.toPrecision(3))}${unit}`),
    }))],
    hooks: { draw: [drawMarks] },
  }, [[], ...names.map(() => [])], plane);
  const resize = new ResizeObserver(([entry]) => plot.setSize({ width: Math.max(200, Math.floor(entry.contentRect.width)), height: 170 }));
  resize.observe(plane);
  return {
    box,
    update(times, rows, newMarks, label) {
      marks = newMarks;
      const last = times.at(-1);
      plane.setAttribute("aria-label", label);
      plot.setData([times, ...rows], false);
      if (times.length > 0) plot.setScale("x", { min: times[0], max: Math.max(last, times[0] + 1) });
    },
    end() {
      resize.disconnect();
      plot.destroy();
    },
  };
}
