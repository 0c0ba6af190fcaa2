// The tables: which columns each has, and how they are sorted and unfolded.

const SPEED = ["throughput", "streams"];
const ONE_BATCH = ["latency", "streams"];
const ANY = (entry) => Object.keys(entry.rows);
const SERVED = ["served", "open_loop"];
const caseOf = (entry) => entry.first.record.case;
const mark = (entry) => (isWrong(entry) ? "bad" : null);
const remarksColumn = prose("remarks", (entry) => entry.remarks.join(", "), {kind: "prose"});

/** A column of a field that any of the entry's measurements may have. */
const anyNumber = (heading, path, options) => {
  const column = (entry) => numbers(heading, ANY(entry), path, options);
  return {heading, title: path, best: options?.best, key: (entry) => column(entry).key(entry), cell: (entry) => column(entry).cell(entry)};
};
const anyField = (heading, path, options) => ({
  ...field(heading, [], path, options),
  key: (entry) => field(heading, ANY(entry), path).key(entry),
  cell: (entry) => field(heading, ANY(entry), path, options).cell(entry),
});

const BOUNDS = [
  anyNumber("TFLOP/s", "tflops"), anyNumber("% of peak", "share_of_peak_pct", {digits: 1}),
  anyNumber("FLOP/byte", "intensity"), anyField("bound by", "bound"),
];
const COST = [anyNumber("peak MiB", "peak_memory_mib", {digits: 0}), anyNumber("compile s", "compile_s", {digits: 1})];

// For each kind of entry its heading, and its columns besides the case. Kinds that are not here have the last one's.
const TABLES = {
  case: ["Cases", [
    numbers("p50 ms", ONE_BATCH, "p50_ms", {best: "least"}),
    numbers("p90 ms", ONE_BATCH, "p90_ms"), numbers("p99 ms", ONE_BATCH, "p99_ms"),
    numbers("images/s", SPEED, "images_per_second", {best: "greatest"}),
    numbers("host to answer/s", ["generated"], "images_per_second"),
    numbers("file to class/s", ["end_to_end"], "images_per_second"),
    numbers("bulk/s", ["bulk"], "images_per_second"),
    numbers("top-1 %", ["accuracy"], "top1.pct", {digits: 2}),
    numbers("AP %", ["coco"], "ap.pct", {digits: 2}), numbers("AP50 %", ["coco"], "ap50.pct", {digits: 2}),
    field("against fp32", ["accuracy", "coco"], "paired.verdict", {mark}),
    numbers("SQNR dB", ["parity"], "sqnr_db", {digits: 1}),
    ...BOUNDS, ...COST, remarksColumn,
  ]],
  versus: ["A against B, in turns", [
    anyField("verdict", "verdict", {mark: (entry) => ({slower: "bad", worse: "bad", faster: "good"})[entry.first.record.verdict]}),
    anyField("against", "against"), anyNumber("time ratio", "ratio", {digits: 3}), anyNumber("first p50 ms", "first.p50_ms"),
    anyNumber("second p50 ms", "second.p50_ms"), anyNumber("blocks", "blocks"), anyField("reason", "reason", {kind: "prose"}), remarksColumn,
  ]],
  scenario: ["MLPerf scenarios (LoadGen)", [
    field("scenario", ["scenario"], "scenario"),
    field("LoadGen", ["scenario"], "validity", {mark: (entry) => (entry.first.record.validity === "VALID" ? "good" : "bad")}),
    numbers("p90 at most, ms", ["scenario"], "p90_bound_ms"), numbers("p99 at most, ms", ["scenario"], "p99_bound_ms"),
    numbers("samples/s", ["scenario"], "samples_per_second"), numbers("mean ms", ["scenario"], "mean_ms"),
    numbers("queries", ["scenario"], "queries"), numbers("latency bound, ms", ["scenario"], "bound_ms"),
    field("terms", ["scenario"], "terms", {kind: "prose"}), field("reasons", ["scenario"], "reasons", {kind: "prose"}), remarksColumn,
  ]],
  served: ["Served loads", [
    field("protocol", SERVED, "protocol"), field("mode", SERVED, "mode"), numbers("clients", SERVED, "clients"),
    numbers("requests/s", SERVED, "rate_per_second"), numbers("images/s", SERVED, "images_per_second"),
    numbers("p50 ms", SERVED, "p50_ms"), numbers("p90 ms", SERVED, "p90_ms"), numbers("p99 ms", SERVED, "p99_ms"),
    numbers("open requests", SERVED, "mean_concurrency"), numbers("images a batch", SERVED, "mean_batch"),
    numbers("SQNR dB", SERVED, "answers_sqnr_db", {digits: 1}), remarksColumn,
  ]],
  training_step: ["Training steps", [
    anyNumber("images/s", "images_per_second"), anyNumber("p50 ms", "p50_ms"), anyNumber("p90 ms", "p90_ms"),
    anyNumber("forward ms", "forward_ms"), anyNumber("backward ms", "backward_ms"), anyNumber("optimiser ms", "optimiser_ms"),
    ...BOUNDS, ...COST, remarksColumn,
  ]],
  training: ["Training runs", [
    anyNumber("images/s", "images_per_second"), anyNumber("steps", "steps"), anyNumber("first losses", "first_losses_mean", {digits: 3}),
    anyNumber("last losses", "last_losses_mean", {digits: 3}), anyNumber("top-1 %", "evaluation.top1_pct", {digits: 2}),
    anyNumber("s to threshold", "time_to_threshold_s", {digits: 1}), ...COST, remarksColumn,
  ]],
  outcome: ["What gave no number", [
    prose("outcome", (entry) => words(entry.first.record.outcome), {mark: (entry) => (["unsupported", "skipped"].includes(entry.first.record.outcome) ? null : "bad")}),
    prose("reason", (entry) => entry.first.record.reason ?? "", {kind: "prose"}),
  ]],
  other: ["Other measurements", [
    prose("measurement", (entry) => words(entry.first.record.measurement)),
    anyNumber("images/s", "images_per_second"), anyNumber("p50 ms", "p50_ms"), anyField("verdict", "verdict"), remarksColumn,
  ]],
};
const tableOf = (kind) => (kind === "open_loop" ? "served" : kind in TABLES ? kind : "other");

/** Sorting: {column, isDown} by kind of table; without one, the order of the files. */
const sorting = {};

function compareKeys(one, other) {
  if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
  if (isNumber(one) && isNumber(other)) return one - other;
  return String(one).localeCompare(String(other), "en", {numeric: true});
}

function sorted(kind, columns, entries) {
  const by = sorting[kind];
  const column = columns.find((one) => one.heading === by?.column);
  if (!column) return entries;
  const keyed = entries.map((entry) => [column.key(entry) ?? undefined, entry]);
  // what has no value stays last, whichever way the others go
  keyed.sort(([one], [other]) => (one === undefined || other === undefined || !by.isDown ? 1 : -1) * compareKeys(one, other));
  return keyed.map(([, entry]) => entry);
}

/** The section of one kind of entries: its heading and its table. `redraw` is called after a click on a heading. */
function section(kind, entries, redraw) {
  const [heading, own] = TABLES[kind];
  const first = [
    {...prose("case", caseOf), cell: (entry) => [unfoldButton(entry)]},
    ...(PAGE.files.length > 1 ? [prose("file", (entry) => fileOf(entry.first).name)] : []),
  ];
  const ofTable = ENTRIES.filter((entry) => tableOf(entry.kind) === kind);
  const columns = [...first, ...own].filter((column) => ofTable.some((entry) => column.cell(entry).length));
  const table = element("table", {"data-table": kind},
    element("thead", {}, element("tr", {}, ...columns.map((column) => headingCell(kind, column, redraw)))));
  const body = element("tbody");
  const best = bestOf(columns, entries);
  for (const entry of sorted(kind, columns, entries)) {
    const cells = columns.map((column) => {
      const classes = [column.kind ?? "", best.get(column)?.has(entry) ? "best" : ""].join(" ").trim();
      return element("td", {class: classes || null, "data-column": column.heading}, ...column.cell(entry));
    });
    const line = element("tr", {class: "row", "data-case": caseOf(entry)}, ...cells);
    body.append(line);
    if (entry.inside) line.after(entry.inside);
  }
  table.append(body);
  return element("section", {id: `table-${kind}`}, element("h2", {}, heading), element("div", {class: "scroll"}, table));
}

function headingCell(kind, column, redraw) {
  const by = sorting[kind]?.column === column.heading ? sorting[kind] : null;
  const button = element("button", {type: "button", title: column.title ?? null}, column.heading);
  button.addEventListener("click", () => {
    // the first click on a number shows the best first, where it is known which that is, else the greatest
    const isDownFirst = !column.kind && column.best !== "least";
    sorting[kind] = {column: column.heading, isDown: by ? !by.isDown : isDownFirst};
    redraw();
    document.querySelector(`[data-table="${kind}"] th[aria-sort] button`).focus();
  });
  const order = by ? (by.isDown ? "descending" : "ascending") : null;
  return element("th", {scope: "col", class: column.kind ? "word" : null, "aria-sort": order}, button);
}

/** The entries with the best number of each model, device and batch, where there are several and the answers hold. */
function bestOf(columns, entries) {
  const found = new Map();
  for (const column of columns.filter((one) => one.best)) {
    const winners = new Map();
    const counts = new Map();
    for (const entry of entries.filter((one) => isNumber(column.key(one)) && !isWrong(one))) {
      const group = groupOf(entry);
      const held = winners.get(group);
      counts.set(group, (counts.get(group) ?? 0) + 1);
      const isBetter = !held || (column.best === "least" ? column.key(entry) < column.key(held) : column.key(entry) > column.key(held));
      if (isBetter) winners.set(group, entry);
    }
    found.set(column, new Set([...winners].filter(([group]) => counts.get(group) > 1).map(([, entry]) => entry)));
  }
  return found;
}

const groupOf = ({first: {record}}) => `${record.model}, ${record.device}, batch ${record.batch}`;

function unfoldButton(entry) {
  const button = element("button", {type: "button", class: "unfold", "aria-expanded": String(Boolean(entry.inside))}, caseOf(entry));
  button.addEventListener("click", () => {
    const line = button.closest("tr");
    if (entry.inside) entry.inside.remove();
    else line.after(entry.inside = inside(entry, line.children.length));
    sweep();
    button.setAttribute("aria-expanded", String(Boolean(entry.inside)));
  });
  return button;
}

/** What unfolds under a row: the pictures of its measurements, then each record with its evidence. */
function inside(entry, width) {
  const rows = Object.values(entry.rows);
  const told = rows.flatMap((row) => Object.values(row.remarks).map((sentence) => element("p", {class: "note bad"}, sentence)));
  // the measurements of one case mostly have one proof
  const proofs = Map.groupBy(rows, (row) => JSON.stringify(row.record.evidence));
  const evidence = [...proofs.values()].map((of) => element("details", {open: ""},
    element("summary", {}, `Evidence of ${of.map((row) => words(kindOf(row))).join(", ")}`),
    of[0].record.evidence ? fieldsOf(of[0], of[0].record.evidence, ["evidence"]) : "There is none in this file."));
  const others = rows.map((row) => {
    const {evidence: _, ...rest} = row.record;
    return element("details", {}, element("summary", {}, `All else that was recorded of ${words(kindOf(row))}`), fieldsOf(row, rest, []));
  });
  const pictures = element("div", {class: "pictures"});
  const line = element("tr", {class: "unfolded"}, element("td", {class: "inside", colspan: width},
    element("div", {class: "within"}, pictures, ...told, ...evidence, ...others)));
  drawLater(pictures, () => {
    rows.forEach((row) => drawPictures(row, pictures));
    const profiled = rows.find((row) => row.record.layers?.length);
    if (profiled) drawLayers(profiled, pictures);
  });
  return line;
}
