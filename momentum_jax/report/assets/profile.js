"use strict";

// The performance profile: for each optimizer the proportion of tasks on which it is within a factor of the fastest.

// In proportions: lines that coincide stand so far apart.
const APART = 0.012;

const profileProtocol = () => report.profile.protocols[Number(byId("profile-protocol").value)];

function profileTrace({ label, factors, proportions, score }, i, count) {
  const style = styleOf(indexOf(label));
  const [x, y] = [factors.map(toNumber), proportions.map(toNumber)];
  const name = plain(short(label));
  return {
    name,
    meta: "profile",
    x,
    y: y.map((value) => value + APART * (i - (count - 1) / 2)),
    mode: "lines+markers",
    line: { shape: "hv", color: style.color, dash: style.dash, width: 2.5 },
    marker: { color: style.color, symbol: style.symbol, size: 9 },
    hovertext: x.map((factor, k) => `${name}: within ${show(factor, 3)} times the fastest on ${show(100 * y[k], 3)} % of the tasks (score ${show(toNumber(score), 2)})`),
    hoverinfo: "text",
  };
}

function drawProfile(off) {
  const { title, tasks, lines } = profileProtocol();
  const shown = lines.filter(({ label }) => !off.has(label));
  const steps = indices(tasks).map((i) => (i + 1) / tasks.length);
  const ticks = tasks.length <= 6 ? [0, ...steps] : [0, 0.25, 0.5, 0.75, 1];
  return plot("profile-plot", `Performance profile, ${title}`, shown.map((line, i) => profileTrace(line, i, shown.length)), {
    height: NARROW.matches ? 300 : 360,
    margin: { l: 60, r: 16, t: 10, b: 48 },
    xaxis: axis(NARROW.matches ? "Times the fastest's iterations" : "Iterations to the target, as a multiple of the fastest optimizer's", { range: [0.97, report.profile.limit + 0.03], dtick: 0.5 }),
    yaxis: axis("Tasks within it", { range: [-0.05, 1.06], tickvals: ticks, ticktext: ticks.map((tick) => (tasks.length <= 6 ? `${Math.round(tick * tasks.length)} of ${tasks.length}` : `${100 * tick} %`)) }),
    hovermode: "closest",
  });
}

function profileCaption() {
  const { lines, tasks, left_out: leftOut } = profileProtocol();
  const scores = lines.map(({ label, score }) => `${short(label)} ${show(toNumber(score), 2)}`);
  say(
    "profile-caption",
    `At 1, the height of a line is on how many of ${many(tasks.length, "task")} the optimizer is the fastest; further right, on how many it is at most so many times slower. Runs that miss the target count as never.`,
    `Score, the mean height from 1 to ${report.profile.limit}: ${listed(scores)}. With so few tasks no interval of a score holds.`,
    present(leftOut) && `Left out: ${listed(leftOut)}.`,
  );
}

function profileNumbers() {
  const { title, tasks, lines } = profileProtocol();
  const iterations = (time, ratio) => (time === Infinity ? "never" : `${show(time, 4)} (${show(ratio, 3)})`);
  const rows = tasks.map((task, i) => [task, ...lines.map(({ times, ratios }) => iterations(toNumber(times[i]), toNumber(ratios[i])))]);
  return tableOf(`${capital(title)}: median iterations to the target, and in brackets that over the fastest's`, ["Task", ...lines.map(({ label }) => short(label))], rows);
}

function startProfile() {
  const { protocols } = report.profile;
  fillSelect(byId("profile-protocol"), indices(protocols).map(String), protocols.map(({ title }) => capital(title)));
  const off = legend("profile-legend", protocols[0].lines.map(({ label }) => label), () => draw());
  const draw = () => drawProfile(off);
  const rest = () => {
    profileCaption();
    byId("profile-numbers").replaceChildren(profileNumbers());
  };
  byId("profile-protocol").addEventListener("change", () => {
    rest();
    draw();
  });
  rest();
  return keepDrawn(draw);
}
