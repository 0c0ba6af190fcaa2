// The cells of the tables. Every number carries where it is from: the number of its row and the path of its field.

/** A number as text: with as many digits as the tables at the end of a run have. */
function rounded(value, digits) {
  if (!isNumber(value)) return String(value);
  const size = Math.abs(value);
  const small = () => Math.min(6, 1 - Math.floor(Math.log10(size)));
  return value.toFixed(
    digits ?? (Number.isInteger(value) || size >= 1000 ? 0 : size >= 100 ? 1 : size >= 0.1 ? 2 : small()),
  );
}

/** A number, or another value, of a row's record, which says on hover what it is exactly. */
function value(row, field, digits, kind) {
  const found = at(row.record, field);
  return element(
    "span",
    {
      "data-row": row.index,
      "data-field": JSON.stringify(field.split(".")),
      class: kind,
      title: `${field}: ${found}`,
    },
    rounded(found, digits),
  );
}

/** The fields of the ends of a number's interval: "p50_ms" has "p50_low_ms", and "top1.pct" has "top1.low_pct". */
function endsOf(field) {
  const [, before, unit] = /^(.*?)_?(ms|pct|db)$/.exec(field) ?? [null, field, ""];
  const end = (word) =>
    unit ? `${before}${before && !before.endsWith(".") ? "_" : ""}${word}_${unit}` : `${before}_${word}`;
  return [end("low"), end("high")];
}

/** A column of numbers. `best` says whether the least or the greatest of a model and batch is the best. */
function numbers(heading, measurements, field, {digits, best, title} = {}) {
  const rowOf = (entry) => holder(entry, measurements, field);
  return {
    heading,
    title: title ?? field,
    best,
    key: (entry) => {
      const row = rowOf(entry);
      return row ? at(row.record, field) : undefined;
    },
    cell: (entry) => numberCell(rowOf(entry), field, digits),
  };
}

function numberCell(row, field, digits) {
  if (!row) return [];
  const found = at(row.record, field);
  if (found === null || found === undefined) return missing(row, field);
  const shown = [value(row, field, digits, "number")];
  const [low, high] = endsOf(field).map((end) => at(row.record, end) ?? null);
  if (low !== null && high !== null) {
    const [lowField, highField] = endsOf(field);
    shown.push(
      element("span", {class: "interval"}, " (", value(row, lowField, digits), "–", value(row, highField, digits), ")"),
    );
  }
  return shown;
}

/** What a number that is not there would still need: rounds, or windows. */
function missing(row, field) {
  const lacking = field.endsWith("_ms") ? field.replace("_ms", "_missing_rounds") : "missing_windows";
  if (!at(row.record, lacking)) return [];
  const what = lacking === "missing_windows" ? "windows" : "rounds";
  return [
    element(
      "span",
      {class: "missing", title: `so many more ${what} are needed for it: --min-test-duration`},
      "+",
      value(row, lacking),
      ` ${what}`,
    ),
  ];
}

/** A column of words. */
function prose(heading, textOf, {kind = "word", title, mark} = {}) {
  return {
    heading,
    title,
    kind,
    key: (entry) => textOf(entry) || undefined,
    cell: (entry) => {
      const text = textOf(entry);
      return text ? [element("span", {class: mark?.(entry)}, text)] : [];
    },
  };
}

/** A column of a field that is a word or a list of words. */
function field(heading, measurements, path, options = {}) {
  return prose(
    heading,
    (entry) => {
      const found = holder(entry, measurements, path);
      const told = found ? at(found.record, path) : undefined;
      return told === null || told === undefined ? "" : Array.isArray(told) ? told.join("; ") : String(told);
    },
    options,
  );
}

/** All fields of a value, each leaf with the path that it has in the record. */
function fieldsOf(row, found, path) {
  return element(
    "dl",
    {class: "fields"},
    ...Object.entries(found).map(([name, part]) => {
      const inner = [...path, keyOf(found, name)];
      if (isLeaf(part) || isFew(part)) return pairOf(words(name), leaves(row, part, inner));
      return element("details", {}, element("summary", {}, words(name)), fieldsOf(row, part, inner));
    }),
  );
}

/** The key of a part as JSON has it: a list has numbers. */
const keyOf = (whole, name) => (Array.isArray(whole) ? Number(name) : name);
const pairOf = (name, told) => element("div", {class: "pair"}, element("dt", {}, name), element("dd", {}, ...told));
const isScalar = (part) => part === null || typeof part !== "object";
/** Whether a value is a scalar, a list of scalars, or empty. */
const isLeaf = (part) =>
  isScalar(part) || (Array.isArray(part) ? part.every(isScalar) : Object.keys(part).length === 0);
/** Whether a value is a few named scalars, which fit on a line. */
const isFew = (part) => !Array.isArray(part) && Object.keys(part).length <= 4 && Object.values(part).every(isScalar);

function leaves(row, part, path) {
  const leaf = (one, where) =>
    one === null
      ? "–"
      : element(
          "span",
          {
            class: "leaf",
            "data-row": row.index,
            "data-field": JSON.stringify(where),
          },
          String(one),
        );
  if (isScalar(part)) return [leaf(part, path)];
  const found = Object.entries(part);
  if (!found.length) return ["none"];
  const named = (name) => (Array.isArray(part) ? "" : `${words(name)} `);
  const all = found.flatMap(([name, one], index) => [
    `${index ? ", " : ""}${named(name)}`,
    leaf(one, [...path, keyOf(part, name)]),
  ]);
  return found.length > 12 ? [element("span", {class: "long"}, ...all)] : all;
}
