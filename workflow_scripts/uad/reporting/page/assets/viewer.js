// The viewer: five NiiVue panels that show one place of one scan as one arm sees it.
// Pages opened from disk may not fetch files, so the volumes are scripts: each calls uadbench.put(name, volumes).
"use strict";

(function () {
  const section = document.getElementById("viewer");
  const catalogue = JSON.parse(document.getElementById("scans").textContent);
  if (!catalogue.length) return;

  const AXES = { axial: 2, coronal: 1, sagittal: 0 };
  const PREDICTED = { R: [0, 230], G: [0, 159], B: [0, 0], A: [0, 200], I: [0, 1], labels: ["", "predicted"] };
  const TRUTH = {
    R: [0, 86, 153], G: [0, 180, 153], B: [0, 233, 153], A: [0, 200, 200], I: [0, 1, 2],
    labels: ["", "lesion", "excluded"],
  };
  const GREY = { colormap: "gray", cal_min: 0, cal_max: 1 };
  // A panel's layers: which volume, and how it is drawn; the residual's scale ends at the scan's own maximum.
  const PANELS = {
    input: () => [["image", GREY]],
    reconstruction: () => [["reconstruction", GREY]],
    residual: (reading) => [["residual", { colormap: "inferno", cal_min: 0, cal_max: reading.residual_max || 1 }]],
    prediction: () => [["image", GREY], ["prediction", { labels: PREDICTED }]],
    truth: () => [["image", GREY], ["label", { labels: TRUTH }]],
  };

  const by = (name) => document.getElementById(`viewer-${name}`);
  const [scanChoice, armChoice, planeChoice, slider] = ["scan", "arm", "plane", "slice"].map(by);
  const loaded = new Map();
  const panels = {};
  let voxel = [0, 0, 0];
  let round = 0; // raised by every choice, so that a load that comes late changes nothing
  let moving = false;

  window.uadbench = { put: (name, volumes) => loaded.set(name, volumes) };

  const state = (name, text) => {
    section.dataset.state = name;
    by("message").textContent = text;
  };
  const scan = () => catalogue[Number(scanChoice.value)];
  const reading = () => scan().readings[Number(armChoice.value)];

  function loadScript(path) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = path;
      script.onload = () => resolve(script.remove());
      script.onerror = () => reject(new Error(`${path} is missing; keep the report's folder together`));
      document.head.append(script);
    });
  }

  async function volumesOf(name) {
    if (!loaded.has(name)) await loadScript(`volumes/${name}.js`);
    return loaded.get(name);
  }

  async function startPanels() {
    const { Niivue, SLICE_TYPE } = window.niivue;
    for (const name of Object.keys(PANELS)) {
      const viewer = new Niivue({
        backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 0, 0.6], crosshairWidth: 0.15, dragAndDropEnabled: false,
        isNearestInterpolation: true, isRadiologicalConvention: true, logLevel: "error", scrollRequiresFocus: true,
        sliceType: SLICE_TYPE.AXIAL,
      });
      await viewer.attachToCanvas(by(name).querySelector("canvas"), false);
      viewer.onLocationChange = (place) => moveTo(Array.from(place.vox, Math.round));
      panels[name] = viewer;
    }
  }

  async function showLayers(viewer, layers, volumes) {
    for (const volume of viewer.volumes.slice()) viewer.removeVolume(volume);
    for (const [name, look] of layers) {
      const { labels, ...options } = look;
      const image = await window.niivue.NVImage.loadFromBase64({ base64: volumes[name], name: `${name}.nii.gz`, ...options });
      if (labels) image.setColormapLabel(labels);
      viewer.addVolume(image);
    }
  }

  async function show() {
    const turn = ++round;
    state("loading", "Loading …");
    try {
      const volumes = { ...(await volumesOf(scan().file)), ...(await volumesOf(reading().file)) };
      if (turn !== round) return;
      for (const [name, layersOf] of Object.entries(PANELS)) {
        const layers = layersOf(reading()).filter(([volume]) => volumes[volume]);
        const whole = layers.length === layersOf(reading()).length;
        await showLayers(panels[name], whole ? layers : [], volumes);
        if (turn !== round) return;
        by(name).classList.toggle("empty", !whole);
      }
    } catch (error) {
      state("failed", error.message);
      return;
    }
    describe();
    draw();
    state("ready", "");
  }

  function describe() {
    const { note, dice, auprc, threshold, residual_max: top } = reading();
    const facts = [
      scan().lesion_ml > 0 ? `lesion ${scan().lesion_ml.toFixed(1)} ml` : "no lesion",
      dice === null ? null : `Dice ${(100 * dice).toFixed(1)} %`,
      auprc === null ? null : `AUPRC ${(100 * auprc).toFixed(1)} %`,
      threshold === null ? null : `threshold ${threshold.toPrecision(3)}`,
      `residual scale 0 to ${top.toPrecision(2)}`,
      note || null,
    ];
    by("facts").textContent = facts.filter(Boolean).join(" · ");
  }

  function moveTo(place) {
    if (moving) return;
    voxel = place.map((index, axis) => Math.min(Math.max(index, 0), scan().shape[axis] - 1));
    draw();
  }

  function draw() {
    const axis = AXES[planeChoice.value];
    slider.max = scan().shape[axis] - 1;
    slider.value = voxel[axis];
    by("place").textContent = `${voxel[axis] + 1} of ${scan().shape[axis]}`;
    moving = true; // moving a panel makes it report its place
    for (const viewer of Object.values(panels)) {
      if (!viewer.volumes.length) continue;
      viewer.scene.crosshairPos = viewer.vox2frac(voxel);
      viewer.opts.sliceType = axis === 2 ? 0 : axis === 1 ? 1 : 2;
      viewer.drawScene();
    }
    moving = false;
  }

  function fillArms() {
    const kept = armChoice.selectedOptions[0]?.textContent;
    armChoice.replaceChildren(...scan().readings.map((entry, place) => new Option(entry.label, place)));
    const same = scan().readings.findIndex((entry) => entry.label === kept);
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

  function chooseScan() {
    fillArms();
    voxel = scan().start.slice();
    show();
  }

  function hasWebGL2() {
    const context = document.createElement("canvas").getContext("webgl2");
    context?.getExtension("WEBGL_lose_context")?.loseContext();
    return Boolean(context);
  }

  async function start() {
    if (!hasWebGL2()) {
      state("failed", "This browser offers no WebGL 2, which the viewer needs; the figures above show example slices.");
      return;
    }
    state("loading", "Loading the viewer …");
    try {
      await loadScript("assets/niivue.js");
      by("controls").hidden = false;
      by("panels").hidden = false;
      await startPanels();
    } catch (error) {
      state("failed", `The viewer did not start: ${error.message}`);
      return;
    }
    scanChoice.addEventListener("change", chooseScan);
    armChoice.addEventListener("change", show);
    planeChoice.addEventListener("change", draw);
    slider.addEventListener("input", () => {
      voxel[AXES[planeChoice.value]] = Number(slider.value);
      draw();
    });
    by("lesion").addEventListener("click", () => moveTo(scan().start));
    fillScans();
    chooseScan();
  }

  // The library is 2.4 MB: it waits until the reader comes near.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    start();
  }, { rootMargin: "300px" }).observe(section);
})();
