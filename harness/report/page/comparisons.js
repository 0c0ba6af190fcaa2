// The rows that several files have, compared; and where and with what each file was measured.

/** Ratios with their intervals, a line each, and the bound within which two times are called the same. */
function forest(title, found, bound) {
  const made = chart({
    title,
    x_axis_label: "time ratio: below 1 is faster",
    y_range: found.map((one) => one.name).reverse(),
    height: 90 + 24 * found.length,
  });
  const data = source({
    name: found.map((one) => one.name),
    ratio: found.map((one) => one.ratio),
    low: found.map((one) => one.low ?? one.ratio),
    high: found.map((one) => one.high ?? one.ratio),
  });
  intervals(made, data, "width", {base: "name", low: "low", high: "high"}, COLOURS[0]);
  hover(
    made,
    [dots(made, data, "ratio", "name", {size: 8, fill_color: COLOURS[0], name: "ratios"})],
    [
      ["", "@name"],
      ["ratio", "@ratio{0.000}"],
      ["95%", "@low{0.000} to @high{0.000}"],
    ],
  );
  line(made, "height", 1, ink("--soft"), "solid");
  if (isNumber(bound))
    [1 + bound / 100, 1 / (1 + bound / 100)].forEach((end) => line(made, "height", end, ink("--bad")));
  return made;
}

const PAIR_COLUMNS = ["case", "measurement", "earlier", "later", "time ratio", "95% interval", "verdict", "remarks"];

function comparisons(isShown) {
  const pairs = PAGE.pairs.map((pair, index) => ({pair, index})).filter(({pair}) => isShown(pair));
  if (!pairs.length) return null;
  const number = (index, path) => {
    const found = at(PAGE.pairs[index], path);
    return isNumber(found)
      ? element(
          "span",
          {"data-pair": index, "data-field": JSON.stringify(path.split(".")), title: found},
          rounded(found, 3),
        )
      : "";
  };
  const body = element(
    "tbody",
    {},
    ...pairs.map(({pair, index}) => {
      const verdict = pair.ratio
        ? [pair.ratio.verdict, pair.ratio.reason].filter(Boolean).join(": ")
        : `refused: ${pair.refused}`;
      const interval = isNumber(pair.ratio?.low)
        ? [number(index, "ratio.low"), " to ", number(index, "ratio.high")]
        : [];
      const [earlier, later] = [PAGE.files[pair.earlier].name, PAGE.files[pair.later].name];
      return element(
        "tr",
        {class: "row"},
        element("td", {class: "word"}, pair.case),
        element("td", {class: "word"}, words(pair.measurement)),
        element("td", {title: earlier}, pair.first),
        element("td", {title: later}, pair.second),
        element("td", {}, number(index, "ratio.value")),
        element("td", {}, ...interval),
        element(
          "td",
          {class: `prose ${pair.is_worse ? "bad" : ["faster", "better"].includes(pair.ratio?.verdict) ? "good" : ""}`},
          verdict,
        ),
        element("td", {class: "prose"}, pair.remarks.join("; ")),
      );
    }),
  );
  const head = element(
    "thead",
    {},
    element(
      "tr",
      {},
      ...PAIR_COLUMNS.map((name) =>
        element(
          "th",
          {scope: "col", class: ["case", "measurement", "verdict", "remarks"].includes(name) ? "word" : null},
          name,
        ),
      ),
    ),
  );
  const place = element("div", {class: "pictures"});
  const drawn = pairs.filter(({pair}) => isNumber(pair.ratio?.value) && pair.measurement !== "accuracy").slice(0, 40);
  if (drawn.length) {
    drawLater(place, () =>
      put(
        place,
        forest(
          "The later time over the earlier, with 95% intervals",
          drawn.map(({pair, index}) => ({
            name: `${index + 1}. ${pair.case} ${pair.measurement}`,
            ratio: pair.ratio.value,
            low: pair.ratio.low,
            high: pair.ratio.high,
          })),
          PAGE.bound_pct,
        ),
        "comparisons",
        "picture wide",
      ),
    );
  }
  return element(
    "section",
    {id: "comparisons"},
    element("h2", {}, "Rows that several files have, compared"),
    element(
      "p",
      {class: "note"},
      `Each later file against the first that has the row, as visionmark compare does; same: within ${PAGE.bound_pct}%; of accuracy, points won.`,
    ),
    element("div", {class: "scroll"}, element("table", {"data-table": "pairs"}, head, body)),
    place,
  );
}

/** The facts of the runs: where and with what they were measured. */
function machines() {
  const described = PAGE.files.map((file) => {
    const {name, environment, ...others} = file;
    const facts = {...others, ...(environment ?? {})};
    return element(
      "details",
      PAGE.files.length === 1 ? {open: ""} : {},
      element("summary", {}, name),
      plainFields(facts),
    );
  });
  return element("section", {id: "machines"}, element("h2", {}, "Machines, devices and versions"), ...described);
}

function plainFields(facts) {
  const told = Object.entries(facts).filter(
    ([, fact]) => fact !== null && fact !== undefined && (isScalar(fact) || Object.keys(fact).length),
  );
  return element(
    "dl",
    {class: "fields"},
    ...told.map(([name, fact]) =>
      isLeaf(fact)
        ? pairOf(words(name), [Array.isArray(fact) ? fact.join(" ") : String(fact)])
        : element("div", {class: "part"}, element("dt", {}, words(name)), element("dd", {}, plainFields(fact))),
    ),
  );
}
