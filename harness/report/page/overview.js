// What is seen of several rows at once: speed against rightness, loads, the runs over time, comparisons, machines.

/** The points of no other which are both faster and no less right: indices, the most right first. */
function paretoFront(points) {
  const order = points.map((_, index) => index).sort((one, other) =>
    points[other].right - points[one].right || points[other].speed - points[one].speed);
  const front = [];
  for (const index of order) {
    if (!front.length || points[index].speed > points[front.at(-1)].speed) front.push(index);
  }
  return front;
}

// By what answers are judged: the name of it, the row that has it, and the field. The first that a group has is shown.
const RIGHT = [
  ["top-1, %", (entry) => accuracyOf(entry), "top1.pct"],
  ["AP, %", (entry) => accuracyOf(entry), "ap.pct"],
  ["SQNR against fp32, dB", (entry) => entry.rows.parity, "sqnr_db"],
];

/** The points of some entries for each way in which they are judged: [name, [{entry, speed, right, …}]]. */
function pointsOf(entries) {
  return RIGHT.map(([name, holderOf, path]) => [name, entries.flatMap((entry) => {
    const row = holder(entry, SPEED, "images_per_second");
    const judged = holderOf(entry);
    const speed = row && at(row.record, "images_per_second");
    const right = judged && at(judged.record, path);
    if (!isNumber(speed) || !isNumber(right)) return [];
    const ends = [endsIn(row.record, "images_per_second"), endsIn(judged.record, path)];
    return [{entry, speed, right, speed_low: ends[0].low ?? speed, speed_high: ends[0].high ?? speed, right_low: ends[1].low ?? right, right_high: ends[1].high ?? right}];
  })]).filter(([, points]) => points.length > 1);
}

const chosen = {};

/** A list to choose from, which keeps what was chosen when the page is drawn again. */
function choice(name, label, options, redraw) {
  if (!options.includes(chosen[name])) chosen[name] = options[0];
  if (options.length < 2) return null;
  const list = element("select", {name}, ...options.map((one) => element("option", one === chosen[name] ? {selected: ""} : {}, one)));
  list.addEventListener("change", () => { chosen[name] = list.value; redraw(); });
  return element("label", {}, `${label} `, list);
}

function speedAgainstRight(entries, redraw) {
  const groups = Map.groupBy(entries.filter((entry) => entry.kind === "case"), groupOf);
  const found = new Map([...groups].map(([group, of]) => [group, pointsOf(of)]).filter(([, of]) => of.length));
  if (!found.size) return null;
  const most = (group) => Math.max(...found.get(group).map(([, points]) => points.length));
  const groupList = choice("group", "of", [...found.keys()].sort((one, other) => most(other) - most(one)), redraw);
  const judgedList = choice("judged", "by", found.get(chosen.group).map(([name]) => name), redraw);
  const points = new Map(found.get(chosen.group)).get(chosen.judged);
  const place = element("div", {class: "pictures"});
  const made = element("section", {id: "speed-against-right"}, element("h2", {}, `Throughput against accuracy: ${chosen.group}`),
    element("p", {class: "note"}, groupList, " ", judgedList, " Upwards is faster, to the right is more right. The line is the Pareto front: no other "
      + "row is both. A hollow mark fails a gate."), place);
  drawLater(place, () => put(place, drawnFront(points), "speed against right", "picture wide"));
  return made;
}

function drawnFront(points) {
  const made = chart({
    x_axis_label: chosen.judged, y_axis_label: "images/s", height: 380,
    x_range: new Bokeh.DataRange1d({range_padding: 0.2}), y_range: fromZero(),
  });
  const front = paretoFront(points).map((index) => points[index]);
  const engine = ({entry}) => entry.first.record.engine;
  const colours = signs(points.map(engine), COLOURS);
  const shapes = signs(points.map(({entry}) => entry.first.record.precision), MARKERS);
  made.line({x: front.map((one) => one.right), y: front.map((one) => one.speed), line_color: ink("--soft"), line_width: 1.5, name: "front"});
  for (const [name, colour] of colours) {
    const own = points.filter((one) => engine(one) === name);
    const column = (key) => own.map((one) => one[key]);
    const data = source({
      ...Object.fromEntries(["speed", "speed_low", "speed_high", "right", "right_low", "right_high"].map((key) => [key, column(key)])),
      case: own.map(({entry}) => caseOf(entry)), file: own.map(({entry}) => fileOf(entry.first).name),
      label: own.map(({entry}) => `${entry.first.record.precision} ${name}`),
      shape: own.map(({entry}) => shapes.get(entry.first.record.precision)),
      fill: own.map(({entry}) => (isWrong(entry) ? ink("--paper") : colour)),
    });
    intervals(made, data, "height", {base: "right", low: "speed_low", high: "speed_high"}, colour);
    intervals(made, data, "width", {base: "speed", low: "right_low", high: "right_high"}, colour);
    const drawn = made.scatter({source: data, x: {field: "right"}, y: {field: "speed"}, marker: {field: "shape"}, size: 11,
      fill_color: {field: "fill"}, line_color: colour, line_width: 2, name: `engine ${name}`});
    made.text({source: data, x: {field: "right"}, y: {field: "speed"}, text: {field: "label"}, x_offset: 9, y_offset: -7,
      text_font_size: "11px", text_color: ink("--soft"), level: "overlay"});
    hover(made, [drawn], [["case", "@case"], ["file", "@file"], ["images/s", "@speed{0.00} (@speed_low{0.00} to @speed_high{0.00})"], [chosen.judged, "@right{0.00} (@right_low{0.00} to @right_high{0.00})"]]);
  }
  return made;
}

/** How long requests take as the load grows: p50 against images per second, a line for each way of asking. */
function servedLoads(entries) {
  const loads = entries.filter((entry) => tableOf(entry.kind) === "served").map((entry) => ({entry, record: entry.first.record}))
    .filter(({record}) => isNumber(record.images_per_second) && isNumber(record.p50_ms));
  if (loads.length < 2) return null;
  const ways = Map.groupBy(loads, ({record}) => `${record.model} ${record.engine} ${record.protocol} ${record.mode ?? "open loop"}`);
  const place = element("div", {class: "pictures"});
  drawLater(place, () => {
    const made = chart({x_axis_label: "images/s", y_axis_label: "p50, ms", height: 320});
    for (const [way, colour] of signs([...ways.keys()], COLOURS)) {
      const of = ways.get(way).sort((one, other) => (one.record.clients ?? 0) - (other.record.clients ?? 0));
      const data = source({x: of.map(({record}) => record.images_per_second), y: of.map(({record}) => record.p50_ms),
        low: of.map(({record}) => record.p50_low_ms ?? record.p50_ms), high: of.map(({record}) => record.p50_high_ms ?? record.p50_ms),
        clients: of.map(({record}) => record.clients ?? ""), case: of.map(({entry}) => caseOf(entry))});
      made.line({source: data, x: {field: "x"}, y: {field: "y"}, line_color: colour, legend_label: way});
      intervals(made, data, "height", {base: "x", low: "low", high: "high"}, colour);
      const drawn = made.scatter({source: data, x: {field: "x"}, y: {field: "y"}, size: 8, fill_color: colour, line_color: null, legend_label: way});
      hover(made, [drawn], [["case", "@case"], ["clients", "@clients"], ["images/s", "@x{0.0}"], ["p50 ms", "@y{0.00}"]]);
    }
    legend(made, "top_left");
    put(place, made, "served loads", "picture wide");
  });
  return element("section", {id: "served-loads"}, element("h2", {}, "Served loads: how long a request takes as the load grows"), place);
}

// What is drawn over the time of the runs.
const WATCHED = [["latency", "p50_ms"], ["throughput", "images_per_second"], ["streams", "images_per_second"], ["served", "p50_ms"], ["accuracy", "top1.pct"], ["training_step", "images_per_second"]];
const MOST_LINES = 16;

function history(entries, redraw) {
  const rows = entries.flatMap((entry) => Object.values(entry.rows)).filter((row) => fileOf(row).datetime);
  const found = new Map();
  for (const [measurement, path] of WATCHED) {
    const measured = rows.filter((row) => row.record.measurement === measurement && isNumber(at(row.record, path)));
    const lines = [...Map.groupBy(measured, (row) => row.record.case)].filter(([, of]) => unique(of.map((row) => row.file)).length > 1);
    if (lines.length) found.set(`${words(measurement)}: ${words(path)}`, {path, lines});
  }
  if (!found.size) return null;
  const list = choice("watched", "show", [...found.keys()], redraw);
  const {path, lines} = found.get(chosen.watched);
  const place = element("div", {class: "pictures"});
  const left = lines.length > MOST_LINES ? ` The first ${MOST_LINES} of ${lines.length} cases are drawn; filter for others.` : "";
  drawLater(place, () => {
    const made = chart({x_axis_type: "datetime", x_axis_label: "when the run ended (UTC)", y_axis_label: chosen.watched, height: 320});
    const shown = lines.slice(0, MOST_LINES);
    for (const [name, colour] of signs(shown.map(([case_]) => case_), COLOURS)) {
      const of = new Map(shown).get(name).sort((one, other) => Date.parse(fileOf(one).datetime) - Date.parse(fileOf(other).datetime));
      const ends = of.map((row) => endsIn(row.record, path));
      const y = of.map((row) => at(row.record, path));
      const data = source({x: of.map((row) => Date.parse(fileOf(row).datetime)), y, low: ends.map((one, index) => one.low ?? y[index]), high: ends.map((one, index) => one.high ?? y[index]), file: of.map((row) => fileOf(row).name), case: of.map(() => name)});
      made.line({source: data, x: {field: "x"}, y: {field: "y"}, line_color: colour, legend_label: name});
      intervals(made, data, "height", {base: "x", low: "low", high: "high"}, colour);
      hover(made, [made.scatter({source: data, x: {field: "x"}, y: {field: "y"}, size: 7, fill_color: colour, line_color: null})], [["case", "@case"], ["file", "@file"], [words(path), "@y{0.000}"]]);
    }
    legend(made, "top_left");
    put(place, made, "history", "picture wide");
  });
  return element("section", {id: "history"}, element("h2", {}, "The runs over time"), element("p", {class: "note"}, list, left), place);
}

const PAIR_COLUMNS = ["case", "measurement", "earlier", "later", "time ratio", "95% interval", "verdict", "remarks"];

function comparisons(isShown) {
  const pairs = PAGE.pairs.map((pair, index) => ({pair, index})).filter(({pair}) => isShown(pair));
  if (!pairs.length) return null;
  const number = (index, path) => {
    const found = at(PAGE.pairs[index], path);
    return isNumber(found) ? element("span", {"data-pair": index, "data-field": JSON.stringify(path.split(".")), title: found}, rounded(found, 3)) : "";
  };
  const body = element("tbody", {}, ...pairs.map(({pair, index}) => {
    const verdict = pair.ratio ? [pair.ratio.verdict, pair.ratio.reason].filter(Boolean).join(": ") : `refused: ${pair.refused}`;
    const interval = isNumber(pair.ratio?.low) ? [number(index, "ratio.low"), " to ", number(index, "ratio.high")] : [];
    const [earlier, later] = [PAGE.files[pair.earlier].name, PAGE.files[pair.later].name];
    return element("tr", {class: "row"}, element("td", {class: "word"}, pair.case), element("td", {class: "word"}, words(pair.measurement)),
      element("td", {title: earlier}, pair.first), element("td", {title: later}, pair.second), element("td", {}, number(index, "ratio.value")), element("td", {}, ...interval),
      element("td", {class: `prose ${pair.is_worse ? "bad" : ["faster", "better"].includes(pair.ratio?.verdict) ? "good" : ""}`}, verdict), element("td", {class: "prose"}, pair.remarks.join("; ")));
  }));
  const head = element("thead", {}, element("tr", {}, ...PAIR_COLUMNS.map((name) => element("th", {scope: "col", class: ["case", "measurement", "verdict", "remarks"].includes(name) ? "word" : null}, name))));
  const place = element("div", {class: "pictures"});
  const drawn = pairs.filter(({pair}) => isNumber(pair.ratio?.value) && pair.measurement !== "accuracy").slice(0, 40);
  if (drawn.length) {
    drawLater(place, () => put(place, forest("The later time over the earlier, with 95% intervals",
      drawn.map(({pair, index}) => ({name: `${index + 1}. ${pair.case} ${pair.measurement}`, ratio: pair.ratio.value, low: pair.ratio.low, high: pair.ratio.high})), PAGE.bound_pct), "comparisons", "picture wide"));
  }
  return element("section", {id: "comparisons"}, element("h2", {}, "Rows that several files have, compared"),
    element("p", {class: "note"}, `Each later file against the first that has the row, as visionmark compare does; same: within ${PAGE.bound_pct}%; of accuracy, points won.`),
    element("div", {class: "scroll"}, element("table", {"data-table": "pairs"}, head, body)), place);
}

/** The facts of the runs: where and with what they were measured. */
function machines() {
  const described = PAGE.files.map((file) => {
    const {name, environment, ...others} = file;
    const facts = {...others, ...(environment ?? {})};
    return element("details", PAGE.files.length === 1 ? {open: ""} : {}, element("summary", {}, name), plainFields(facts));
  });
  return element("section", {id: "machines"}, element("h2", {}, "Machines, devices and versions"), ...described);
}

function plainFields(facts) {
  const told = Object.entries(facts).filter(([, fact]) => fact !== null && fact !== undefined && (isScalar(fact) || Object.keys(fact).length));
  return element("dl", {class: "fields"}, ...told.map(([name, fact]) => (isLeaf(fact)
    ? pairOf(words(name), [Array.isArray(fact) ? fact.join(" ") : String(fact)])
    : element("div", {class: "part"}, element("dt", {}, words(name)), element("dd", {}, plainFields(fact))))));
}
