// The pictures of any row: its rounds in their order, how they are distributed, and the layers that took longest.

function drawRounds({index, record, rounds}, place) {
  const name = words(record.measurement);
  const thinned = rounds.at ? `, the extremes among ${rounds.total}` : "";
  const times = {x: rounds.at ?? rounds.times_ms.map((_, round) => round), y: rounds.times_ms};
  const made = chart({
    title: `${name}: every ${rounds.of} in its order${thinned}`,
    x_axis_label: rounds.of,
    y_axis_label: `ms a ${rounds.per}`,
  });
  const data = source(times);
  through(made, data, "x", "y", {line_color: COLOURS[0], line_alpha: 0.35});
  const points = dots(made, data, "x", "y", {size: 4, fill_color: COLOURS[0], fill_alpha: 0.7});
  hover(
    made,
    [points],
    [
      [rounds.of, "@x"],
      ["ms", "@y{0.0000}"],
    ],
  );
  const marks = [
    ["p50_ms", 1],
    ["p90_ms", 4],
    ["p99_ms", 2],
  ].filter(([field]) => isNumber(record[field]));
  marks.forEach(([field, colour]) => line(made, "width", record[field], COLOURS[colour]));
  put(place, made, `${index} rounds`);
  if (!rounds.bins) return;
  const {low_ms: low, width_ms: width, counts} = rounds.bins;
  const spread = chart({
    title: `${name}: distribution of ${rounds.total}`,
    x_axis_label: `ms a ${rounds.per}`,
    y_axis_label: "how many",
  });
  const boxes = spread.quad({
    source: source({
      left: counts.map((_, bin) => low + bin * width),
      right: counts.map((_, bin) => low + (bin + 1) * width),
      top: counts,
    }),
    left: {field: "left"},
    right: {field: "right"},
    top: {field: "top"},
    bottom: 0,
    fill_color: COLOURS[0],
    fill_alpha: 0.6,
    line_color: ink("--paper"),
  });
  hover(
    spread,
    [boxes],
    [
      ["ms", "@left{0.000} to @right{0.000}"],
      ["how many", "@top"],
    ],
  );
  marks.forEach(([field, colour]) => {
    spread.line({
      x: [record[field], record[field]],
      y: [0, Math.max(...counts)],
      line_color: COLOURS[colour],
      line_width: 2,
      line_dash: "dashed",
      legend_label: words(field).replace(" ms", ""),
    });
  });
  legend(spread);
  put(place, spread, `${index} distribution`);
}

/** The layers of a profiled step that took longest. */
function drawLayers({index, record}, place) {
  const found = record.layers.filter((layer) => isNumber(layer.time_ms));
  const name = (layer, number) => `${number + 1}. ${layer.name.slice(-60)}`;
  put(
    place,
    bars(
      "The costliest layers of a step",
      "ms",
      found.map((layer, number) => ({name: name(layer, number), value: layer.time_ms, colour: COLOURS[3]})),
    ),
    `${index} layers`,
  );
}
