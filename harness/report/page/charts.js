// Charts, as Bokeh draws them, in the colours of the page.

const {figure: newFigure, show} = Bokeh.Plotting;
// Okabe and Ito's colours, which people tell apart however they see colours.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6bb1", "#7f7f7f"];
const MARKERS = ["circle", "square", "triangle", "diamond", "inverted_triangle", "plus", "x", "star"];

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const source = (data) => new Bokeh.ColumnDataSource({data});
/** One of several signs for each of some names, always the same for the same place in the list. */
const signs = (names, all) => new Map(unique(names).map((name, index) => [name, all[index % all.length]]));

/** A figure without data. The title becomes text of the page, as `put` shows it; the other options are Bokeh's. */
function chart({title = "", ...options}) {
  const made = newFigure({
    height: 270,
    sizing_mode: "stretch_width",
    tools: "pan,box_zoom,reset,save",
    toolbar_location: "right",
    background_fill_color: null,
    border_fill_color: null,
    outline_line_color: ink("--line"),
    tags: [title],
    ...options,
  });
  made.toolbar.logo = null;
  made.toolbar.autohide = true;
  for (const axis of [...made.below, ...made.left]) {
    Object.assign(axis, {
      axis_label_text_color: ink("--soft"),
      major_label_text_color: ink("--soft"),
      axis_line_color: ink("--line"),
      major_tick_line_color: ink("--line"),
      minor_tick_line_color: null,
      axis_label_text_font_style: "normal",
    });
  }
  for (const grid of made.center) Object.assign(grid, {grid_line_color: ink("--line"), grid_line_alpha: 0.6});
  return made;
}

/** A range of numbers from 0 upwards, with some share of it free at its end, as for a legend. */
const fromZero = (free = 0.1) => new Bokeh.DataRange1d({start: 0, range_padding: free});

/** Points of two columns of a source. */
const dots = (made, data, x, y, options) =>
  made.scatter({source: data, x: {field: x}, y: {field: y}, size: 7, line_color: null, ...options});

/** A line through the points of two columns of a source. */
const through = (made, data, x, y, options) => made.line({source: data, x: {field: x}, y: {field: y}, ...options});

/** What is shown at the pointer: pairs of a heading and Bokeh's name of a column, such as "@case". */
function hover(made, renderers, tooltips) {
  made.add_tools(new Bokeh.HoverTool({renderers, tooltips}));
}

/** The ends of intervals, beside points. `along` is "height" for those of y, "width" for those of x. */
function intervals(made, data, along, {base, low, high}, colour) {
  const place = (name) => ({field: name});
  made.add_layout(
    new Bokeh.Whisker({
      source: data,
      dimension: along,
      base: place(base),
      lower: place(low),
      upper: place(high),
      line_color: colour,
      upper_head: head(colour),
      lower_head: head(colour),
    }),
  );
  // the range of a chart is that of its points, so that the ends are points too, which nobody sees
  for (const end of [low, high]) {
    const [x, y] = along === "height" ? [base, end] : [end, base];
    made.scatter({source: data, x: place(x), y: place(y), size: 1, fill_alpha: 0, line_alpha: 0});
  }
}

const head = (colour) => new Bokeh.TeeHead({size: 7, line_color: colour});

/** A straight line at a number. */
function line(made, dimension, location, colour, dash = "dashed") {
  made.add_layout(new Bokeh.Span({location, dimension, line_color: colour, line_dash: dash, line_width: 1}));
  const name = made.y_range.factors?.[0];
  // among bars it may lie beyond them all, where a point that nobody sees takes the range to it
  if (name !== undefined) made.scatter({x: [location], y: [name], size: 1, fill_alpha: 0, line_alpha: 0});
}

function legend(made, location = "top_right") {
  for (const one of made.legend ? [made.legend].flat() : []) {
    Object.assign(one, {
      location,
      background_fill_color: null,
      border_line_color: null,
      label_text_color: ink("--soft"),
      label_text_font_size: "11px",
      padding: 4,
      spacing: 0,
      click_policy: "hide",
    });
  }
}

/** Bars that lie on their side, a line each: [{name, value}], with a chart's options. */
function bars(title, unit, found, options = {}) {
  const names = found.map((one) => one.name);
  const made = chart({
    title,
    x_axis_label: unit,
    x_range: fromZero(),
    y_range: [...names].reverse(),
    height: 70 + 24 * names.length,
    ...options,
  });
  const data = source({
    name: names,
    value: found.map((one) => one.value),
    low: found.map((one) => one.low ?? one.value),
    high: found.map((one) => one.high ?? one.value),
    colour: found.map((one) => one.colour ?? COLOURS[0]),
  });
  const drawn = made.hbar({
    source: data,
    y: {field: "name"},
    right: {field: "value"},
    height: 0.6,
    fill_color: {field: "colour"},
    line_color: null,
  });
  if (found.some((one) => one.low !== undefined))
    intervals(made, data, "width", {base: "name", low: "low", high: "high"}, ink("--ink"));
  hover(
    made,
    [drawn],
    [
      ["", "@name"],
      [unit, "@value{0.000}"],
    ],
  );
  return made;
}

/** Bars of parts that add up: `parts` are [name of the part, value for each bar]. */
function stacked(title, unit, names, parts) {
  const made = chart({
    title,
    x_axis_label: unit,
    x_range: fromZero(0.5),
    y_range: [...names].reverse(),
    height: 110 + 24 * names.length,
  });
  const before = names.map(() => 0);
  parts.forEach(([part, values], index) => {
    const left = [...before];
    values.forEach((found, place) => {
      before[place] += found;
    });
    const data = source({name: names, left, right: [...before], value: values, part: names.map(() => part)});
    const drawn = made.hbar({
      source: data,
      y: {field: "name"},
      left: {field: "left"},
      right: {field: "right"},
      height: 0.6,
      fill_color: COLOURS[index % COLOURS.length],
      line_color: null,
      legend_label: part,
    });
    hover(
      made,
      [drawn],
      [
        ["", "@name: @part"],
        [unit, "@value{0.000}"],
      ],
    );
  });
  legend(made);
  return made;
}

// What is drawn in the page: {box, view}.
let drawings = [];

/** Show a chart in the page, named so that what it holds can be found. */
function put(place, made, name, kind = "picture") {
  made.name = name;
  const [title] = made.tags;
  const box = element("div", {role: "img", "aria-label": title || name, "data-picture": name});
  place.append(element("div", {class: kind}, title ? element("h3", {}, title) : null, box));
  show(made, box).then((view) => {
    drawings.push({box, view});
    box.setAttribute("data-drawn", "");
  });
}

/** Draw in the next frame, when a place has its width, unless it is out of the page again by then. */
function drawLater(place, draw) {
  requestAnimationFrame(() => {
    if (place.isConnected) draw();
  });
}

/** Let go of what is no longer in the page: pictures, and what was unfolded of entries. */
function sweep() {
  for (const entry of ENTRIES) if (!entry.inside?.isConnected) entry.inside = null;
  for (const {view} of drawings.filter(({box}) => !box.isConnected)) {
    const place = Bokeh.documents.indexOf(view.model.document);
    if (place >= 0) Bokeh.documents.splice(place, 1);
    view.remove();
  }
  drawings = drawings.filter(({box}) => box.isConnected);
}
