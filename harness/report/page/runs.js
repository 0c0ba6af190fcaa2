// What is seen of several rows at once: how loads grow, and how a number changed over the time of the runs.

const chosen = {};

/** A list to choose from, which keeps what was chosen when the page is drawn again. */
function choice(name, label, options, redraw) {
  if (!options.includes(chosen[name])) chosen[name] = options[0];
  if (options.length < 2) return null;
  const list = element(
    "select",
    {name},
    ...options.map((one) => element("option", one === chosen[name] ? {selected: ""} : {}, one)),
  );
  list.addEventListener("change", () => {
    chosen[name] = list.value;
    redraw();
  });
  return element("label", {}, `${label} `, list);
}

/** How long requests take as the load grows: p50 against images per second, a line for each way of asking. */
function servedLoads(entries) {
  const loads = entries
    .filter((entry) => tableOf(entry.kind) === "served")
    .map((entry) => ({entry, record: entry.first.record}))
    .filter(({record}) => isNumber(record.images_per_second) && isNumber(record.p50_ms));
  if (loads.length < 2) return null;
  const ways = Map.groupBy(
    loads,
    ({entry, record}) =>
      [
        ...(PAGE.files.length > 1 ? [fileOf(entry.first).name] : []),
        ...[record.model, record.device, record.engine, `batch ${record.batch}`],
        ...[record.protocol, record.mode ?? "open loop"],
      ].join(" "),
  );
  const place = element("div", {class: "pictures"});
  drawLater(place, () => {
    const made = chart({x_axis_label: "images/s", y_axis_label: "p50, ms", height: 320});
    for (const [way, colour] of signs([...ways.keys()], COLOURS)) {
      const of = ways.get(way).sort((one, other) => (one.record.clients ?? 0) - (other.record.clients ?? 0));
      const data = source({
        x: of.map(({record}) => record.images_per_second),
        y: of.map(({record}) => record.p50_ms),
        low: of.map(({record}) => record.p50_low_ms ?? record.p50_ms),
        high: of.map(({record}) => record.p50_high_ms ?? record.p50_ms),
        clients: of.map(({record}) => record.clients ?? ""),
        case: of.map(({entry}) => caseOf(entry)),
      });
      through(made, data, "x", "y", {line_color: colour, legend_label: way});
      intervals(made, data, "height", {base: "x", low: "low", high: "high"}, colour);
      const drawn = dots(made, data, "x", "y", {size: 8, fill_color: colour, legend_label: way});
      hover(
        made,
        [drawn],
        [
          ["case", "@case"],
          ["clients", "@clients"],
          ["images/s", "@x{0.0}"],
          ["p50 ms", "@y{0.00}"],
        ],
      );
    }
    legend(made, "top_left");
    put(place, made, "served loads", "picture wide");
  });
  return element(
    "section",
    {id: "served-loads"},
    element("h2", {}, "Served loads: how long a request takes as the load grows"),
    place,
  );
}

// What is drawn over the time of the runs.
const WATCHED = [
  ["latency", "p50_ms"],
  ["throughput", "images_per_second"],
  ["streams", "images_per_second"],
  ["served", "p50_ms"],
  ["accuracy", "top1.pct"],
  ["training_step", "images_per_second"],
];
const MOST_LINES = 16;

function history(entries, redraw) {
  const rows = entries.flatMap((entry) => Object.values(entry.rows)).filter((row) => fileOf(row).datetime);
  const found = new Map();
  for (const [measurement, path] of WATCHED) {
    const measured = rows.filter((row) => row.record.measurement === measurement && isNumber(at(row.record, path)));
    const lines = [...Map.groupBy(measured, (row) => row.record.case)].filter(
      ([, of]) => unique(of.map((row) => row.file)).length > 1,
    );
    if (lines.length) found.set(`${words(measurement)}: ${words(path)}`, {path, lines});
  }
  if (!found.size) return null;
  const list = choice("watched", "show", [...found.keys()], redraw);
  const {path, lines} = found.get(chosen.watched);
  const place = element("div", {class: "pictures"});
  const left =
    lines.length > MOST_LINES ? ` The first ${MOST_LINES} of ${lines.length} cases are drawn; filter for others.` : "";
  drawLater(place, () => {
    const made = chart({
      x_axis_type: "datetime",
      x_axis_label: "when the run ended (UTC)",
      y_axis_label: chosen.watched,
      height: 320,
    });
    const shown = lines.slice(0, MOST_LINES);
    for (const [name, colour] of signs(
      shown.map(([case_]) => case_),
      COLOURS,
    )) {
      const of = new Map(shown)
        .get(name)
        .sort((one, other) => Date.parse(fileOf(one).datetime) - Date.parse(fileOf(other).datetime));
      const ends = of.map((row) => endsIn(row.record, path));
      const y = of.map((row) => at(row.record, path));
      const data = source({
        x: of.map((row) => Date.parse(fileOf(row).datetime)),
        y,
        low: ends.map((one, index) => one.low ?? y[index]),
        high: ends.map((one, index) => one.high ?? y[index]),
        file: of.map((row) => fileOf(row).name),
        case: of.map(() => name),
      });
      through(made, data, "x", "y", {line_color: colour, legend_label: name});
      intervals(made, data, "height", {base: "x", low: "low", high: "high"}, colour);
      hover(
        made,
        [dots(made, data, "x", "y", {fill_color: colour})],
        [
          ["case", "@case"],
          ["file", "@file"],
          [words(path), "@y{0.000}"],
        ],
      );
    }
    legend(made, "top_left");
    put(place, made, "history", "picture wide");
  });
  return element(
    "section",
    {id: "history"},
    element("h2", {}, "The runs over time"),
    element("p", {class: "note"}, list, left),
    place,
  );
}
