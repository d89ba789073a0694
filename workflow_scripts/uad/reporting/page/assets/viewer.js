// The viewer: four NiiVue panels that show one place of one scan as one arm sees it.
"use strict";

(function () {
  const section = document.getElementById("viewer");
  const catalogue = JSON.parse(document.getElementById("scans-shown").textContent);
  if (!catalogue.length) return;

  const AXES = { axial: 2, coronal: 1, sagittal: 0 };
  const PANELS = ["input", "reconstruction", "map", "marks"];
  // hit, miss, false alarm, excluded: the colours of the legend in report.css
  const MARKS = {
    R: [0, 240, 86, 213, 153], G: [0, 228, 180, 94, 153], B: [0, 66, 233, 0, 153], A: [0, 255, 255, 255, 255],
    I: [0, 1, 2, 3, 4], labels: ["", "hit", "miss", "false alarm", "excluded"],
  };
  const GREY = { colormap: "gray", cal_min: 0, cal_max: 1 };
  const MAP_COLOURS = "inferno";
  const BAR_STOPS = 16;
  const ZOOM_STEP = 1.5;
  const CROSSHAIR_WIDTH = 0.15;
  const KEYS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 };

  const by = (name) => document.getElementById(`viewer-${name}`);
  const [scanChoice, armChoice, planeChoice, scaleChoice] = ["scan", "arm", "plane", "scale"].map(by);
  const [slider, overlay, opacity, crosshair] = ["slice", "overlay", "opacity", "crosshair"].map(by);
  const panels = {};
  let voxel = [0, 0, 0];
  let zoom = 1;
  let round = 0; // raised by every choice, so that a load that comes late changes nothing
  let moving = false;
  let wanted = null; // asked for before the viewer had started
  let started = false;

  const state = (name, text) => {
    section.dataset.state = name;
    by("message").textContent = text;
  };
  const scan = () => catalogue[Number(scanChoice.value)];
  const reading = () => scan().readings[Number(armChoice.value)];
  const mapName = () => (reading().reconstructs ? "Residual" : "Anomaly map");

  // The upper end of the map's scale.  Maps have no common unit, so only residuals share one.
  function scaleTop() {
    const shared = scaleChoice.value === "shared" && reading().reconstructs;
    const counted = shared ? scan().readings.filter((entry) => entry.reconstructs) : [reading()];
    return Math.max(...counted.map((entry) => entry.map_max)) || 1;
  }

  // Panel -> its layers, each a volume and how it is drawn.
  function layersOf(volumes) {
    return {
      input: [[volumes.image, GREY]],
      reconstruction: volumes.reconstruction ? [[volumes.reconstruction, GREY]] : [],
      map: [[volumes.map, { colormap: MAP_COLOURS, cal_min: 0, cal_max: scaleTop() }]],
      marks: [[volumes.image, GREY], [volumes.marks, { labels: MARKS }]],
    };
  }

  async function startPanels() {
    const { Niivue, SLICE_TYPE } = window.niivue;
    for (const name of PANELS) {
      const viewer = new Niivue({
        backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 0, 0.6], crosshairWidth: CROSSHAIR_WIDTH,
        dragAndDropEnabled: false, isNearestInterpolation: true, isRadiologicalConvention: true, logLevel: "error",
        sliceType: SLICE_TYPE.AXIAL,
      });
      const canvas = by(name).querySelector("canvas");
      await viewer.attachToCanvas(canvas, false);
      canvas.tabIndex = -1; // the panels together are one stop
      viewer.onLocationChange = (place) => moveTo(Array.from(place.vox, Math.round));
      panels[name] = viewer;
    }
  }

  // The colour bar has NiiVue's own colours, four numbers each.
  function colourBar() {
    const colours = panels.map.colormap(MAP_COLOURS);
    const stops = Array.from({ length: BAR_STOPS }, (_, stop) => {
      const at = 4 * Math.round((stop * (colours.length / 4 - 1)) / (BAR_STOPS - 1));
      return `rgb(${colours[at]}, ${colours[at + 1]}, ${colours[at + 2]})`;
    });
    by("bar").querySelector("i").style.backgroundImage = `linear-gradient(to right, ${stops.join(", ")})`;
  }

  async function showLayers(viewer, layers) {
    for (const volume of viewer.volumes.slice()) viewer.removeVolume(volume);
    for (const [base64, look] of layers) {
      const { labels, ...options } = look;
      const name = base64.startsWith("H4s") ? "volume.nii.gz" : "volume.nii"; // the start of gzip's bytes in base64
      const image = await window.niivue.NVImage.loadFromBase64({ base64, name, ...options });
      if (labels) image.setColormapLabel(labels);
      viewer.addVolume(image);
    }
  }

  async function volumesToShow() {
    const [seen, made] = await Promise.all(
      [scan().file, reading().file].map((file) => uadbench.load(`volumes/${file}`)),
    );
    const { residual, marks } = uadbench.nifti;
    const top = reading().map_max || 1;
    const map = made.map ?? await residual(seen.image, made.reconstruction, seen.mask, top);
    return { ...seen, ...made, map, marks: await marks(seen.label, made.prediction) };
  }

  async function show() {
    const turn = ++round;
    state("loading", "Loading …");
    try {
      const volumes = await volumesToShow();
      if (turn !== round) return;
      for (const [name, layers] of Object.entries(layersOf(volumes))) {
        await showLayers(panels[name], layers);
        if (turn !== round) return;
        by(name).classList.toggle("empty", !layers.length);
      }
    } catch (error) {
      if (turn === round) state("failed", error.message);
      return;
    }
    describe();
    drawOverlay();
    draw();
    state("ready", "");
  }

  function describe() {
    const { note, dice, auprc, threshold } = reading();
    const facts = [
      scan().lesion_ml > 0 ? `lesion ${scan().lesion_ml.toFixed(1)} ml` : "no lesion",
      dice === 0 ? "Dice 0 %: no lesion voxel found" : dice === null ? null : `Dice ${(100 * dice).toFixed(1)} %`,
      auprc === null ? null : `AUPRC ${(100 * auprc).toFixed(1)} %`,
      threshold === null ? null : `threshold ${threshold.toPrecision(3)}`,
      note || null,
    ];
    by("facts").textContent = facts.filter(Boolean).join(" · ");
    by("map").querySelector(".title").textContent = mapName();
    const [low, high] = by("bar").querySelectorAll("span");
    low.textContent = "0";
    high.textContent = scaleTop().toPrecision(2);
  }

  function drawOverlay() {
    const marks = panels.marks;
    if (marks.volumes.length > 1) marks.setOpacity(1, overlay.checked ? Number(opacity.value) : 0);
  }

  function drawScale() {
    const map = panels.map;
    map.volumes[0].cal_max = scaleTop();
    map.updateGLVolume();
    describe();
  }

  function moveTo(place) {
    if (moving) return;
    voxel = place.map((index, axis) => Math.min(Math.max(index, 0), scan().shape[axis] - 1));
    draw();
  }

  function moveBy(slices) {
    const axis = AXES[planeChoice.value];
    moveTo(voxel.map((index, other) => (other === axis ? index + slices : index)));
  }

  function draw() {
    const axis = AXES[planeChoice.value];
    slider.max = scan().shape[axis] - 1;
    slider.value = voxel[axis];
    const place = `${voxel[axis] + 1} of ${scan().shape[axis]}`;
    by("place").textContent = place;
    moving = true; // moving a panel makes it report its place
    for (const [name, viewer] of Object.entries(panels)) {
      const title = by(name).querySelector(".title").textContent;
      viewer.canvas.setAttribute("aria-label", `${title}, ${planeChoice.value} slice ${place}`);
      if (!viewer.volumes.length) continue;
      viewer.scene.crosshairPos = viewer.vox2frac(voxel);
      const centre = viewer.frac2mm(viewer.scene.crosshairPos);
      viewer.scene.pan2Dxyzmm = [0, 1, 2].map((at) => (1 - zoom) * centre[at]).concat(zoom);
      viewer.opts.sliceType = axis === 2 ? 0 : axis === 1 ? 1 : 2;
      viewer.opts.crosshairWidth = crosshair.checked ? CROSSHAIR_WIDTH : 0;
      viewer.drawScene();
    }
    moving = false;
  }

  function zoomTo(factor) {
    zoom = Math.max(factor, 1);
    draw();
  }

  function fillArms(label) {
    armChoice.replaceChildren(...scan().readings.map((entry, place) => new Option(entry.label, place)));
    const same = scan().readings.findIndex((entry) => entry.label === label);
    const last = Math.max(scan().readings.findLastIndex((entry) => entry.reconstructs), 0);
    armChoice.value = same < 0 ? last : same;
  }

  function fillScans() {
    const groups = new Map();
    catalogue.forEach((entry, place) => {
      if (!groups.has(entry.title)) {
        const group = document.createElement("optgroup");
        group.label = entry.title;
        groups.set(entry.title, group);
      }
      groups.get(entry.title).append(new Option(entry.label, place));
    });
    scanChoice.replaceChildren(...groups.values());
  }

  function chooseScan(label) {
    fillArms(label);
    voxel = scan().start.slice();
    by("previous").disabled = Number(scanChoice.value) === 0;
    by("next").disabled = Number(scanChoice.value) === catalogue.length - 1;
    show();
  }

  function chooseNeighbour(step) {
    const label = reading().label;
    scanChoice.value = Number(scanChoice.value) + step;
    chooseScan(label);
  }

  // The arm whose readings have this label, without its mark of an ensemble.
  const armOf = (label) => label.replace(/ \(ENS\)$/, "");

  // The reading of a scan that shows an arm: the one asked for, or another of the same arm.
  function readingOf(entry, label) {
    return entry.readings.find((one) => one.label === label) ??
      entry.readings.find((one) => armOf(one.label) === armOf(label));
  }

  const placeOf = (place, subject, label) => catalogue.findIndex(
    (entry) => entry.place === place && entry.subject === subject && readingOf(entry, label),
  );

  uadbench.viewerHas = (place, subject, label) => placeOf(place, subject, label) >= 0;

  uadbench.show = (place, subject, label) => {
    const index = placeOf(place, subject, label);
    wanted = { index, label: readingOf(catalogue[index], label).label };
    section.scrollIntoView();
    if (started) takeWanted();
  };

  function takeWanted() {
    scanChoice.value = wanted.index;
    const { label } = wanted;
    wanted = null;
    chooseScan(label);
  }

  function hasWebGL2() {
    const context = document.createElement("canvas").getContext("webgl2");
    context?.getExtension("WEBGL_lose_context")?.loseContext();
    return Boolean(context);
  }

  function listen() {
    scanChoice.addEventListener("change", () => chooseScan(armChoice.selectedOptions[0]?.textContent));
    armChoice.addEventListener("change", show);
    planeChoice.addEventListener("change", draw);
    scaleChoice.addEventListener("change", drawScale);
    crosshair.addEventListener("change", draw);
    overlay.addEventListener("change", drawOverlay);
    opacity.addEventListener("input", drawOverlay);
    slider.addEventListener("input", () => moveBy(Number(slider.value) - voxel[AXES[planeChoice.value]]));
    by("previous").addEventListener("click", () => chooseNeighbour(-1));
    by("next").addEventListener("click", () => chooseNeighbour(1));
    by("in").addEventListener("click", () => zoomTo(zoom * ZOOM_STEP));
    by("out").addEventListener("click", () => zoomTo(zoom / ZOOM_STEP));
    by("reset").addEventListener("click", () => zoomTo(1));
    by("lesion").addEventListener("click", () => moveTo(scan().start));

    // Capturing: NiiVue's own listeners lie on the canvases and would move a slice too.
    const area = by("panels");
    area.addEventListener("wheel", (event) => {
      event.preventDefault();
      event.stopPropagation();
      moveBy(-Math.sign(event.deltaY));
    }, { capture: true, passive: false });
    document.addEventListener("keydown", (event) => {
      const step = KEYS[event.key];
      const other = event.target.matches("input, select, textarea");
      const near = area.contains(document.activeElement) || area.matches(":hover");
      if (!step || other || !near) return;
      event.preventDefault();
      event.stopPropagation();
      moveBy(step);
    }, { capture: true });
  }

  async function start() {
    if (!hasWebGL2()) {
      state("failed", "This browser offers no WebGL 2, which the viewer needs; the figures above show example slices.");
      return;
    }
    state("loading", "Loading the viewer …");
    try {
      await uadbench.run("assets/niivue.js");
      by("controls").hidden = false;
      by("panels").hidden = false;
      await startPanels();
    } catch (error) {
      state("failed", `The viewer did not start: ${error.message}`);
      return;
    }
    colourBar();
    listen();
    fillScans();
    started = true;
    if (wanted) takeWanted();
    else chooseScan();
  }

  uadbench.whenNear(section, start); // the library is 2.4 MB
})();
