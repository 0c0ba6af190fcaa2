// The columns that each table has.

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
  return {
    heading,
    title: path,
    best: options?.best,
    key: (entry) => column(entry).key(entry),
    cell: (entry) => column(entry).cell(entry),
  };
};
const anyField = (heading, path, options) => ({
  ...field(heading, [], path, options),
  key: (entry) => field(heading, ANY(entry), path).key(entry),
  cell: (entry) => field(heading, ANY(entry), path, options).cell(entry),
});

const BOUNDS = [
  anyNumber("TFLOP/s", "tflops"),
  anyNumber("% of peak", "share_of_peak_pct", {digits: 1}),
  anyNumber("FLOP/byte", "intensity"),
  anyField("bound by", "bound"),
];
const COST = [anyNumber("peak MiB", "peak_memory_mib", {digits: 0}), anyNumber("compile s", "compile_s", {digits: 1})];

// For each kind of entry its heading, and its columns besides the case. Kinds that are not here have the last one's.
const TABLES = {
  case: [
    "Cases",
    [
      numbers("p50 ms", ONE_BATCH, "p50_ms", {best: "least"}),
      numbers("p90 ms", ONE_BATCH, "p90_ms"),
      numbers("p99 ms", ONE_BATCH, "p99_ms"),
      numbers("images/s", SPEED, "images_per_second", {best: "greatest"}),
      numbers("host to answer/s", ["generated"], "images_per_second"),
      numbers("file to class/s", ["end_to_end"], "images_per_second"),
      numbers("bulk/s", ["bulk"], "images_per_second"),
      numbers("top-1 %", ["accuracy"], "top1.pct", {digits: 2}),
      numbers("AP %", ["coco"], "ap.pct", {digits: 2}),
      numbers("AP50 %", ["coco"], "ap50.pct", {digits: 2}),
      field("against fp32", ["accuracy", "coco"], "paired.verdict", {mark}),
      numbers("SQNR dB", ["parity"], "sqnr_db", {digits: 1}),
      ...BOUNDS,
      ...COST,
      remarksColumn,
    ],
  ],
  versus: [
    "A against B, in turns",
    [
      anyField("verdict", "verdict", {
        mark: (entry) => ({slower: "bad", worse: "bad", faster: "good"})[entry.first.record.verdict],
      }),
      anyField("against", "against"),
      anyNumber("time ratio", "ratio", {digits: 3}),
      anyNumber("first p50 ms", "first.p50_ms"),
      anyNumber("second p50 ms", "second.p50_ms"),
      anyNumber("starts", "starts"),
      anyNumber("blocks", "blocks"),
      anyField("reason", "reason", {kind: "prose"}),
      remarksColumn,
    ],
  ],
  scenario: [
    "MLPerf scenarios (LoadGen)",
    [
      field("scenario", ["scenario"], "scenario"),
      field("LoadGen", ["scenario"], "validity", {
        mark: (entry) => (entry.first.record.validity === "VALID" ? "good" : "bad"),
      }),
      numbers("p90 at most, ms", ["scenario"], "p90_bound_ms"),
      numbers("p99 at most, ms", ["scenario"], "p99_bound_ms"),
      numbers("samples/s", ["scenario"], "samples_per_second"),
      numbers("mean ms", ["scenario"], "mean_ms"),
      numbers("queries", ["scenario"], "queries"),
      numbers("latency bound, ms", ["scenario"], "bound_ms"),
      field("terms", ["scenario"], "terms", {kind: "prose"}),
      field("reasons", ["scenario"], "reasons", {kind: "prose"}),
      remarksColumn,
    ],
  ],
  served: [
    "Served loads",
    [
      field("protocol", SERVED, "protocol"),
      field("mode", SERVED, "mode"),
      numbers("clients", SERVED, "clients"),
      numbers("requests/s", SERVED, "rate_per_second"),
      numbers("images/s", SERVED, "images_per_second"),
      numbers("p50 ms", SERVED, "p50_ms"),
      numbers("p90 ms", SERVED, "p90_ms"),
      numbers("p99 ms", SERVED, "p99_ms"),
      numbers("open requests", SERVED, "mean_concurrency"),
      numbers("images a batch", SERVED, "mean_batch"),
      numbers("SQNR dB", SERVED, "answers_sqnr_db", {digits: 1}),
      remarksColumn,
    ],
  ],
  training_step: [
    "Training steps",
    [
      anyNumber("images/s", "images_per_second"),
      anyNumber("p50 ms", "p50_ms"),
      anyNumber("p90 ms", "p90_ms"),
      anyNumber("forward ms", "forward_ms"),
      anyNumber("backward ms", "backward_ms"),
      anyNumber("optimiser ms", "optimiser_ms"),
      ...BOUNDS,
      ...COST,
      remarksColumn,
    ],
  ],
  training: [
    "Training runs",
    [
      anyNumber("images/s", "images_per_second"),
      anyNumber("steps", "steps"),
      anyNumber("first losses", "first_losses_mean", {digits: 3}),
      anyNumber("last losses", "last_losses_mean", {digits: 3}),
      anyNumber("top-1 %", "evaluation.top1_pct", {digits: 2}),
      anyNumber("s to threshold", "time_to_threshold_s", {digits: 1}),
      ...COST,
      remarksColumn,
    ],
  ],
  outcome: [
    "What gave no number",
    [
      prose("outcome", (entry) => words(entry.first.record.outcome), {
        mark: (entry) => (["unsupported", "skipped"].includes(entry.first.record.outcome) ? null : "bad"),
      }),
      prose("reason", (entry) => entry.first.record.reason ?? "", {kind: "prose"}),
    ],
  ],
  other: [
    "Other measurements",
    [
      prose("measurement", (entry) => words(entry.first.record.measurement)),
      anyNumber("images/s", "images_per_second"),
      anyNumber("p50 ms", "p50_ms"),
      anyField("verdict", "verdict"),
      remarksColumn,
    ],
  ],
};
const tableOf = (kind) => (kind === "open_loop" ? "served" : kind in TABLES ? kind : "other");
