// Speed against rightness: each row with both intervals, and the Pareto front.

/** The points of no other which are both faster and no less right: indices, the most right first. */
function paretoFront(points) {
  const order = points
    .map((_, index) => index)
    .sort((one, other) => points[other].right - points[one].right || points[other].speed - points[one].speed);
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

/** Which images a score is of: scores of other images say nothing of each other. Empty where they are always the same. */
function sampleOf({sample_sha256: sample, images}) {
  return sample ? ` of ${images} images (sample ${sample.slice(0, 6)})` : "";
}

/** The points of some entries for each way in which they are judged: [name, [{entry, speed, right, …}]]. */
function pointsOf(entries) {
  return RIGHT.flatMap(([name, holderOf, path]) => {
    const all = entries.flatMap((entry) => {
      const row = holder(entry, SPEED, "images_per_second");
      const judged = holderOf(entry);
      const speed = row && at(row.record, "images_per_second");
      const right = judged && at(judged.record, path);
      if (!isNumber(speed) || !isNumber(right)) return [];
      const ends = [endsIn(row.record, "images_per_second"), endsIn(judged.record, path)];
      return [
        {
          entry,
          speed,
          right,
          judged: name + sampleOf(judged.record),
          speed_low: ends[0].low ?? speed,
          speed_high: ends[0].high ?? speed,
          right_low: ends[1].low ?? right,
          right_high: ends[1].high ?? right,
        },
      ];
    });
    return [...Map.groupBy(all, (point) => point.judged)].sort(([, one], [, other]) => other.length - one.length);
  }).filter(([, points]) => points.length > 1);
}

function speedAgainstRight(entries, redraw) {
  const groups = Map.groupBy(
    entries.filter((entry) => entry.kind === "case"),
    groupOf,
  );
  const found = new Map([...groups].map(([group, of]) => [group, pointsOf(of)]).filter(([, of]) => of.length));
  if (!found.size) return null;
  const most = (group) => Math.max(...found.get(group).map(([, points]) => points.length));
  const groupList = choice(
    "group",
    "of",
    [...found.keys()].sort((one, other) => most(other) - most(one)),
    redraw,
  );
  const judgedList = choice(
    "judged",
    "by",
    found.get(chosen.group).map(([name]) => name),
    redraw,
  );
  const points = new Map(found.get(chosen.group)).get(chosen.judged);
  const place = element("div", {class: "pictures"});
  const made = element(
    "section",
    {id: "speed-against-right"},
    element("h2", {}, `Throughput against accuracy: ${chosen.group}`),
    element(
      "p",
      {class: "note"},
      groupList,
      " ",
      judgedList,
      " Upwards is faster, to the right is more right. The line is the Pareto front: no other " +
        "row is both. A hollow mark fails a gate.",
    ),
    place,
  );
  drawLater(place, () => put(place, drawnFront(points), "speed against right", "picture wide"));
  return made;
}

function drawnFront(points) {
  const speeds = points.flatMap((one) => [one.speed, one.speed_low]);
  const isLog = Math.min(...speeds) > 0 && Math.max(...speeds) / Math.min(...speeds) > 10;
  const made = chart({
    x_axis_label: chosen.judged,
    y_axis_label: isLog ? "images/s, logarithmic" : "images/s",
    y_axis_type: isLog ? "log" : "linear",
    height: 380,
    x_range: new Bokeh.DataRange1d({range_padding: 0.2}),
    y_range: isLog ? new Bokeh.DataRange1d() : fromZero(),
  });
  const right = points.filter(({entry}) => !isWrong(entry));
  const front = paretoFront(right).map((index) => right[index]);
  const engine = ({entry}) => entry.first.record.engine;
  const colours = signs(points.map(engine), COLOURS);
  const shapes = signs(
    points.map(({entry}) => entry.first.record.precision),
    MARKERS,
  );
  made.line({
    x: front.map((one) => one.right),
    y: front.map((one) => one.speed),
    line_color: ink("--soft"),
    line_width: 1.5,
    name: "front",
  });
  for (const [name, colour] of colours) {
    const own = points.filter((one) => engine(one) === name);
    const column = (key) => own.map((one) => one[key]);
    const data = source({
      ...Object.fromEntries(
        ["speed", "speed_low", "speed_high", "right", "right_low", "right_high"].map((key) => [key, column(key)]),
      ),
      case: own.map(({entry}) => caseOf(entry)),
      file: own.map(({entry}) => fileOf(entry.first).name),
      label: own.map(({entry}) => `${entry.first.record.precision} ${name}`),
      shape: own.map(({entry}) => shapes.get(entry.first.record.precision)),
      fill: own.map(({entry}) => (isWrong(entry) ? ink("--paper") : colour)),
    });
    intervals(made, data, "height", {base: "right", low: "speed_low", high: "speed_high"}, colour);
    intervals(made, data, "width", {base: "speed", low: "right_low", high: "right_high"}, colour);
    const drawn = dots(made, data, "right", "speed", {
      marker: {field: "shape"},
      size: 11,
      fill_color: {field: "fill"},
      line_color: colour,
      line_width: 2,
      name: `engine ${name}`,
    });
    made.text({
      source: data,
      x: {field: "right"},
      y: {field: "speed"},
      text: {field: "label"},
      x_offset: 9,
      y_offset: -7,
      text_font_size: "11px",
      text_color: ink("--soft"),
      level: "overlay",
    });
    hover(
      made,
      [drawn],
      [
        ["case", "@case"],
        ["file", "@file"],
        ["images/s", "@speed{0.00} (@speed_low{0.00} to @speed_high{0.00})"],
        [chosen.judged, "@right{0.00} (@right_low{0.00} to @right_high{0.00})"],
      ],
    );
  }
  return made;
}
