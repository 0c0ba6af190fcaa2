// The page's data, and small tools. A row is one measurement of one case, or what came of a case that has none:
// {file, record, remarks, rounds}.

const PAGE = JSON.parse(document.getElementById("data").textContent);
PAGE.rows.forEach((row, index) => {
  row.index = index;
});

/** The value at a path, such as "top1.pct", or undefined. */
function at(record, path) {
  return path.split(".").reduce((part, name) => (part === null || part === undefined ? undefined : part[name]), record);
}

/** A new element. Text is only ever set as text, so that no name in the data is taken for HTML. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const isNumber = (value) => typeof value === "number";
const unique = (values) => [...new Set(values)];
const fileOf = (row) => PAGE.files[row.file];
const words = (name) => String(name ?? "").replaceAll("_", " ");

/** The measurement of a row. */
const kindOf = (row) => row.record.measurement ?? "outcome";

/** What else tells rows of one case and measurement apart. */
const APART = ["profile_row", "scenario", "protocol", "mode", "clients", "rate_per_second"];

// The measurements that are shown together, side by side in one row of the table of cases.
const OF_A_CASE = ["latency", "throughput", "streams", "generated", "end_to_end", "bulk", "accuracy", "coco", "parity"];

/** The entries of all tables: {kind, rows, first, text}, where `rows` has each measurement of the entry by its name. */
function entriesOf(rows) {
  const entries = new Map();
  for (const row of rows) {
    const record = row.record;
    const isOfCase = OF_A_CASE.includes(record.measurement);
    const key = isOfCase ? `${row.file} ${record.case} ${record.profile_row ?? ""}` : `row ${row.index}`;
    if (!entries.has(key)) {
      entries.set(key, {kind: isOfCase ? "case" : kindOf(row), rows: {}, first: row});
    }
    entries.get(key).rows[kindOf(row)] = row;
  }
  for (const entry of entries.values()) {
    const parts = Object.values(entry.rows);
    const told = parts.flatMap((row) => [kindOf(row), row.record.outcome ?? "", ...Object.values(row.remarks)]);
    const apart = APART.map((name) => entry.first.record[name]).filter(
      (value) => value !== null && value !== undefined,
    );
    entry.remarks = unique(parts.flatMap((row) => Object.keys(row.remarks)));
    entry.text = [entry.first.record.case, fileOf(entry.first).name, ...apart, ...told].join(" ").toLowerCase();
  }
  return [...entries.values()];
}

const ENTRIES = entriesOf(PAGE.rows);

/** The row of an entry that has a field, looked for in measurements in their order. */
function holder(entry, measurements, field) {
  const found = measurements.map((name) => entry.rows[name]).filter((row) => row !== undefined);
  return (
    found.find((row) => isNumber(at(row.record, field))) ?? found.find((row) => at(row.record, field) !== undefined)
  );
}

const AXES = ["model", "device", "precision", "engine", "settings"];

/** The row with the accuracy that holds for an entry: its own, or one of the same weights at another batch. */
function accuracyOf(entry) {
  const own = entry.rows.accuracy ?? entry.rows.coco;
  if (own) return own;
  const record = entry.first.record;
  const weights = at(record, "identity.weights_sha256");
  return PAGE.rows.find(
    (row) =>
      row.file === entry.first.file &&
      ["accuracy", "coco"].includes(row.record.measurement) &&
      weights !== undefined &&
      at(row.record, "identity.weights_sha256") === weights &&
      AXES.every((axis) => row.record[axis] === record[axis]),
  );
}

/** Whether something speaks against the answers of an entry: a floor that is missed, or a loss that is proven. */
function isWrong(entry) {
  const accuracy = accuracyOf(entry)?.record ?? {};
  const parity = entry.rows.parity?.record ?? {};
  return (
    accuracy.absolute === "fails" ||
    at(accuracy, "paired.verdict") === "fails" ||
    (isNumber(parity.sqnr_db) && parity.sqnr_db < parity.sqnr_floor_db)
  );
}
