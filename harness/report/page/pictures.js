// The pictures that unfold with a row: for each measurement those that fit it.

/** Draw into a place what there is to be seen of a row. A field that a record lacks leaves its picture out. */
function drawPictures(row, place) {
  if (row.rounds) drawRounds(row, place);
  PICTURES[row.record.measurement]?.(row.record, (made, name) => put(place, made, `${row.index} ${name}`));
}

function drawRounds({index, record, rounds}, place) {
  const name = words(record.measurement);
  const thinned = rounds.at ? `, the extremes among ${rounds.total}` : "";
  const times = {x: rounds.at ?? rounds.times_ms.map((_, round) => round), y: rounds.times_ms};
  const made = chart({title: `${name}: every ${rounds.of} in its order${thinned}`, x_axis_label: rounds.of, y_axis_label: `ms a ${rounds.of}`});
  const data = source(times);
  made.line({source: data, x: {field: "x"}, y: {field: "y"}, line_color: COLOURS[0], line_alpha: 0.35});
  const points = made.scatter({source: data, x: {field: "x"}, y: {field: "y"}, size: 4, fill_color: COLOURS[0], line_color: null, fill_alpha: 0.7});
  hover(made, [points], [[rounds.of, "@x"], ["ms", "@y{0.0000}"]]);
  const marks = [["p50_ms", 1], ["p90_ms", 4], ["p99_ms", 2]].filter(([field]) => isNumber(record[field]));
  marks.forEach(([field, colour]) => line(made, "width", record[field], COLOURS[colour]));
  put(place, made, `${index} rounds`);
  if (!rounds.bins) return;
  const {low_ms: low, width_ms: width, counts} = rounds.bins;
  const spread = chart({title: `${name}: distribution of ${rounds.total}`, x_axis_label: `ms a ${rounds.of}`, y_axis_label: "how many"});
  const boxes = spread.quad({
    source: source({left: counts.map((_, bin) => low + bin * width), right: counts.map((_, bin) => low + (bin + 1) * width), top: counts}),
    left: {field: "left"}, right: {field: "right"}, top: {field: "top"}, bottom: 0, fill_color: COLOURS[0], fill_alpha: 0.6, line_color: ink("--paper"),
  });
  hover(spread, [boxes], [["ms", "@left{0.000} to @right{0.000}"], ["how many", "@top"]]);
  marks.forEach(([field, colour]) => {
    spread.line({x: [record[field], record[field]], y: [0, Math.max(...counts)], line_color: COLOURS[colour], line_width: 2,
      line_dash: "dashed", legend_label: words(field).replace(" ms", "")});
  });
  legend(spread);
  put(place, spread, `${index} distribution`);
}

const numbersOf = (record, pairs) => pairs.filter(([field]) => isNumber(at(record, field)))
  .map(([field, name, colour]) => ({name, value: at(record, field), colour, ...endsIn(record, field)}));

function endsIn(record, field) {
  const [low, high] = endsOf(field).map((end) => at(record, end));
  return isNumber(low) && isNumber(high) ? {low, high} : {};
}

function scores(record, pairs, floors, put) {
  const found = numbersOf(record, pairs);
  if (!found.length) return;
  const made = bars("Scores with their 95% intervals", "%", found);
  floors.filter(isNumber).forEach((floor) => line(made, "height", floor, ink("--bad")));
  put(made, "scores");
}

const SHARES = [["decode_pct", "decode"], ["copy_pct", "copy"], ["model_pct", "model"], ["idle_pct", "idle"]];

const PICTURES = {
  streams(record, put) {
    if (!record.each?.length) return;
    put(bars("Images per second of each stream, in the common window", "images/s", record.each
      .filter((one) => isNumber(one.images_per_second))
      .map((one) => ({name: one.name, value: one.images_per_second, low: one.images_per_second_low ?? undefined, high: one.images_per_second_high ?? undefined}))), "each");
  },
  scenario(record, put) {
    const found = numbersOf(record, [["mean_ms", "mean", COLOURS[5]], ["p90_bound_ms", "p90 at most"], ["p99_bound_ms", "p99 at most"], ["p99_ms", "p99"], ["max_ms", "longest", COLOURS[7]]]);
    const made = bars(`${words(record.scenario)}: the time of a query, ${record.validity} (LoadGen)`, "ms", found);
    if (isNumber(record.bound_ms)) line(made, "height", record.bound_ms, ink("--bad"));
    put(made, "scenario");
  },
  served(record, put) {
    const parts = [["server_queue_ms", "waits in the server"], ["server_input_ms", "input"], ["server_compute_ms", "model"], ["server_output_ms", "output"]]
      .filter(([field]) => isNumber(record[field])).map(([field, name]) => [name, [record[field]]]);
    if (!parts.length || !isNumber(record.mean_ms)) return;
    const inside = parts.reduce((sum, [, [found]]) => sum + found, 0);
    put(stacked("Where the mean request spends its time", "ms", ["request"], [...parts, ["client and network", [Math.max(0, record.mean_ms - inside)]]]), "parts");
  },
  open_loop: (record, put) => PICTURES.served(record, put),
  overhead(record, put) {
    const found = ["grpc", "http", "shared_memory"].filter((way) => isNumber(record[`${way}_overhead_ms`]))
      .map((way) => ({name: words(way), value: record[`${way}_overhead_ms`], low: record[`${way}_overhead_low_ms`] ?? undefined, high: record[`${way}_overhead_high_ms`] ?? undefined}));
    if (found.length) put(bars("What serving adds to a request", "ms", found), "overhead");
  },
  end_to_end(record, put) {
    const found = numbersOf(record, [["decode_images_per_second", "decode"], ["preprocess_images_per_second", "preprocess"], ["model_images_per_second", "model"], ["images_per_second", "file to answer", COLOURS[4]]]);
    if (found.length) put(bars(`What each part alone could do; bound by ${record.bound}`, "images/s", found), "parts");
  },
  bulk(record, put) {
    const workers = record.each ?? [];
    if (!workers.length) return;
    const parts = SHARES.filter(([field]) => workers.every((one) => isNumber(one[field]))).map(([field, name]) => [name, workers.map((one) => one[field])]);
    put(stacked("What each worker did with its time", "%", workers.map((one) => one.name), parts), "workers");
  },
  accuracy: (record, put) => scores(record, [["top1.pct", "top-1"], ["top5.pct", "top-5"]], [at(record, "top1_floor.pct"), at(record, "top5_floor.pct")], put),
  coco(record, put) {
    scores(record, [["ap.pct", "AP"], ["ap50.pct", "AP50"], ["ap75.pct", "AP75"]], [at(record, "ap_floor.pct"), at(record, "ap50_floor.pct")], put);
    const categories = Object.entries(at(record, "scores.ap_by_category_pct") ?? {}).filter(([, found]) => isNumber(found));
    categories.sort(([, one], [, other]) => other - one);
    if (categories.length) put(bars("AP of each category", "%", categories.map(([name, found]) => ({name, value: found, colour: COLOURS[2]})), {height: 80 + 14 * categories.length}), "categories");
  },
  training_step(record, put) {
    const parts = [["forward_ms", "forward"], ["backward_ms", "backward"], ["optimiser_ms", "optimiser"]].filter(([field]) => isNumber(record[field]));
    if (parts.length) put(stacked("The phases of a step, each waited for", "ms", ["step"], parts.map(([field, name]) => [name, [record[field]]])), "phases");
  },
  training(record, put) {
    if (record.losses?.length) {
      const made = chart({title: "The loss of each step", x_axis_label: "step", y_axis_label: "loss"});
      made.line({x: record.losses.map((_, step) => step + 1), y: record.losses, line_color: COLOURS[0]});
      put(made, "losses");
    }
    const evaluations = (record.evaluations ?? []).filter((one) => isNumber(one.top1_pct));
    if (evaluations.length > 1) {
      const made = chart({title: "Top-1 where it was evaluated", x_axis_label: "step", y_axis_label: "top-1 %"});
      const data = source({x: evaluations.map((one) => one.step), y: evaluations.map((one) => one.top1_pct)});
      made.line({source: data, x: {field: "x"}, y: {field: "y"}, line_color: COLOURS[2]});
      hover(made, [made.scatter({source: data, x: {field: "x"}, y: {field: "y"}, size: 7, fill_color: COLOURS[2], line_color: null})], [["step", "@x"], ["top-1 %", "@y{0.00}"]]);
      if (isNumber(record.stop_threshold)) line(made, "width", record.stop_threshold, ink("--bad"));
      put(made, "evaluations");
    }
  },
  versus(record, put) {
    const side = words(record.against ?? "B");
    if (isNumber(record.ratio)) put(forest(`The time with ${side} over that without`, [{name: record.case, ratio: record.ratio, low: record.ratio_low, high: record.ratio_high}], record.bound_pct), "ratio");
    if (!record.each_block?.length) return;
    const made = chart({title: "The median of each block, in their turns", x_axis_label: "block", y_axis_label: "ms a batch"});
    ["first", "second"].forEach((name, index) => {
      const of = record.each_block.map((block, turn) => ({...block, turn})).filter((block) => block.side === name);
      const data = source({x: of.map((block) => block.turn), y: of.map((block) => block.median_ms)});
      hover(made, [made.scatter({source: data, x: {field: "x"}, y: {field: "y"}, size: 6, fill_color: COLOURS[index], line_color: null, legend_label: `${name} side`})], [["block", "@x"], ["ms", "@y{0.000}"]]);
    });
    legend(made);
    put(made, "blocks");
  },
};

/** The layers of a profiled step that took longest. */
function drawLayers({index, record}, place) {
  const found = record.layers.filter((layer) => isNumber(layer.time_ms));
  const name = (layer, number) => `${number + 1}. ${layer.name.slice(-60)}`;
  put(place, bars("The costliest layers of a step", "ms", found.map((layer, number) => ({name: name(layer, number), value: layer.time_ms, colour: COLOURS[3]}))), `${index} layers`);
}

/** Ratios with their intervals, a line each, and the bound within which two times are called the same. */
function forest(title, found, bound) {
  const made = chart({title, x_axis_label: "time ratio: below 1 is faster", y_range: found.map((one) => one.name).reverse(), height: 90 + 24 * found.length});
  const data = source({name: found.map((one) => one.name), ratio: found.map((one) => one.ratio),
    low: found.map((one) => one.low ?? one.ratio), high: found.map((one) => one.high ?? one.ratio)});
  intervals(made, data, "width", {base: "name", low: "low", high: "high"}, COLOURS[0]);
  hover(made, [made.scatter({source: data, x: {field: "ratio"}, y: {field: "name"}, size: 8, fill_color: COLOURS[0], line_color: null})],
    [["", "@name"], ["ratio", "@ratio{0.000}"], ["95%", "@low{0.000} to @high{0.000}"]]);
  line(made, "height", 1, ink("--soft"), "solid");
  if (isNumber(bound)) [1 + bound / 100, 1 / (1 + bound / 100)].forEach((end) => line(made, "height", end, ink("--bad")));
  return made;
}
