// The pictures that unfold with a row: for each measurement those that fit it.

/** Draw into a place what there is to be seen of a row. A field that a record lacks leaves its picture out. */
function drawPictures(row, place) {
  if (row.rounds) drawRounds(row, place);
  PICTURES[row.record.measurement]?.(row.record, (made, name) => put(place, made, `${row.index} ${name}`));
}

const numbersOf = (record, pairs) =>
  pairs
    .filter(([field]) => isNumber(at(record, field)))
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

const SHARES = [
  ["decode_pct", "decode"],
  ["copy_pct", "copy"],
  ["model_pct", "model"],
  ["idle_pct", "idle"],
];

const PICTURES = {
  streams(record, put) {
    if (!record.each?.length) return;
    put(
      bars(
        "Images per second of each stream, in the common window",
        "images/s",
        record.each
          .filter((one) => isNumber(one.images_per_second))
          .map((one) => ({
            name: one.name,
            value: one.images_per_second,
            low: one.images_per_second_low ?? undefined,
            high: one.images_per_second_high ?? undefined,
          })),
      ),
      "each",
    );
  },
  scenario(record, put) {
    const found = numbersOf(record, [
      ["mean_ms", "mean", COLOURS[5]],
      ["p90_bound_ms", "p90 at most"],
      ["p99_bound_ms", "p99 at most"],
      ["p99_ms", "p99"],
      ["max_ms", "longest", COLOURS[7]],
    ]);
    const made = bars(`${words(record.scenario)}: the time of a query, ${record.validity} (LoadGen)`, "ms", found);
    if (isNumber(record.bound_ms)) line(made, "height", record.bound_ms, ink("--bad"));
    put(made, "scenario");
  },
  served(record, put) {
    const parts = [
      ["server_queue_ms", "waits in the server"],
      ["server_input_ms", "input"],
      ["server_compute_ms", "model"],
      ["server_output_ms", "output"],
    ]
      .filter(([field]) => isNumber(record[field]))
      .map(([field, name]) => [name, [record[field]]]);
    if (!parts.length || !isNumber(record.mean_ms)) return;
    const inside = parts.reduce((sum, [, [found]]) => sum + found, 0);
    put(
      stacked(
        "Where the mean request spends its time",
        "ms",
        ["request"],
        [...parts, ["client and network", [Math.max(0, record.mean_ms - inside)]]],
      ),
      "parts",
    );
  },
  open_loop: (record, put) => PICTURES.served(record, put),
  overhead(record, put) {
    const found = ["grpc", "http", "shared_memory"]
      .filter((way) => isNumber(record[`${way}_overhead_ms`]))
      .map((way) => ({
        name: words(way),
        value: record[`${way}_overhead_ms`],
        low: record[`${way}_overhead_low_ms`] ?? undefined,
        high: record[`${way}_overhead_high_ms`] ?? undefined,
      }));
    if (found.length) put(bars("What serving adds to a request", "ms", found), "overhead");
  },
  end_to_end(record, put) {
    const found = numbersOf(record, [
      ["decode_images_per_second", "decode"],
      ["preprocess_images_per_second", "preprocess"],
      ["model_images_per_second", "model"],
      ["images_per_second", "file to answer", COLOURS[4]],
    ]);
    if (found.length) put(bars(`What each part alone could do; bound by ${record.bound}`, "images/s", found), "parts");
  },
  bulk(record, put) {
    const workers = record.each ?? [];
    if (!workers.length) return;
    const parts = SHARES.filter(([field]) => workers.every((one) => isNumber(one[field]))).map(([field, name]) => [
      name,
      workers.map((one) => one[field]),
    ]);
    put(
      stacked(
        "What each worker did with its time",
        "%",
        workers.map((one) => one.name),
        parts,
      ),
      "workers",
    );
  },
  accuracy: (record, put) =>
    scores(
      record,
      [
        ["top1.pct", "top-1"],
        ["top5.pct", "top-5"],
      ],
      [at(record, "top1_floor.pct"), at(record, "top5_floor.pct")],
      put,
    ),
  coco(record, put) {
    scores(
      record,
      [
        ["ap.pct", "AP"],
        ["ap50.pct", "AP50"],
        ["ap75.pct", "AP75"],
      ],
      [at(record, "ap_floor.pct"), at(record, "ap50_floor.pct")],
      put,
    );
    const categories = Object.entries(at(record, "scores.ap_by_category_pct") ?? {}).filter(([, found]) =>
      isNumber(found),
    );
    categories.sort(([, one], [, other]) => other - one);
    if (categories.length)
      put(
        bars(
          "AP of each category",
          "%",
          categories.map(([name, found]) => ({name, value: found, colour: COLOURS[2]})),
          {height: 80 + 14 * categories.length},
        ),
        "categories",
      );
  },
  training_step(record, put) {
    const parts = [
      ["forward_ms", "forward"],
      ["backward_ms", "backward"],
      ["optimiser_ms", "optimiser"],
    ].filter(([field]) => isNumber(record[field]));
    if (parts.length)
      put(
        stacked(
          "The phases of a step, each waited for",
          "ms",
          ["step"],
          parts.map(([field, name]) => [name, [record[field]]]),
        ),
        "phases",
      );
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
      through(made, data, "x", "y", {line_color: COLOURS[2]});
      hover(
        made,
        [dots(made, data, "x", "y", {fill_color: COLOURS[2]})],
        [
          ["step", "@x"],
          ["top-1 %", "@y{0.00}"],
        ],
      );
      if (isNumber(record.stop_threshold)) line(made, "width", record.stop_threshold, ink("--bad"));
      put(made, "evaluations");
    }
  },
  versus(record, put) {
    const side = words(record.against ?? "B");
    const starts = (record.each_start ?? [])
      .map((ratio, index) => ({name: `start ${index + 1}`, ratio, low: ratio, high: ratio}))
      .filter((one) => isNumber(one.ratio));
    if (isNumber(record.ratio))
      put(
        forest(
          `The time with ${side} over that without`,
          [{name: record.case, ratio: record.ratio, low: record.ratio_low, high: record.ratio_high}, ...starts],
          record.bound_pct,
        ),
        "ratio",
      );
    if (!record.each_block?.length) return;
    const made = chart({
      title: "The median of each block, in their turns",
      x_axis_label: "block",
      y_axis_label: "ms a batch",
    });
    ["first", "second"].forEach((name, index) => {
      const of = record.each_block.map((block, turn) => ({...block, turn})).filter((block) => block.side === name);
      const data = source({x: of.map((block) => block.turn), y: of.map((block) => block.median_ms)});
      hover(
        made,
        [dots(made, data, "x", "y", {size: 6, fill_color: COLOURS[index], legend_label: `${name} side`})],
        [
          ["block", "@x"],
          ["ms", "@y{0.000}"],
        ],
      );
    });
    legend(made);
    put(made, "blocks");
  },
};
