// Volumes of the viewer as bytes: 8-bit NIfTI files, gzipped and in base64 (uad/reporting/page/scans.py).
"use strict";

uadbench.nifti = (function () {
  // Byte places in the header (nifti1.h).
  const [OFFSET, SLOPE, INTERCEPT] = [108, 112, 116];

  async function decode(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    const head = new DataView(buffer);
    const start = head.getFloat32(OFFSET, true);
    return {
      head: new Uint8Array(buffer.slice(0, start)),
      steps: new Uint8Array(buffer, start),
      slope: head.getFloat32(SLOPE, true) || 1, // 0 and NaN: not scaled
      intercept: head.getFloat32(INTERCEPT, true) || 0,
    };
  }

  // A file in base64 that lies in space as `like` does; its values are slope * steps.
  function encode(like, steps, slope) {
    const bytes = new Uint8Array(like.head.length + steps.length);
    bytes.set(like.head);
    bytes.set(steps, like.head.length);
    const head = new DataView(bytes.buffer);
    head.setFloat32(SLOPE, slope, true);
    head.setFloat32(INTERCEPT, 0, true);
    let text = "";
    for (let at = 0; at < bytes.length; at += 0x8000) {
      text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    }
    return btoa(text);
  }

  // |image - reconstruction| within the brain, in 255 steps up to `top`.
  async function residual(image, reconstruction, mask, top) {
    const [seen, made, brain] = await Promise.all([image, reconstruction, mask].map(decode));
    const steps = seen.steps.map((step, at) => {
      if (!brain.steps[at]) return 0;
      const difference = seen.slope * step + seen.intercept - (made.slope * made.steps[at] + made.intercept);
      return Math.min(Math.round((255 * Math.abs(difference)) / top), 255);
    });
    return encode(seen, steps, top / 255);
  }

  // 1 hit, 2 miss, 3 false alarm, 4 excluded from evaluation; without a prediction the lesion is a miss.
  async function marks(label, prediction) {
    const [truth, called] = await Promise.all([label, prediction].map((text) => (text ? decode(text) : null)));
    const steps = truth.steps.map((value, at) => {
      if (value === 2) return 4;
      const predicted = called !== null && called.steps[at] > 0;
      if (value === 1) return predicted ? 1 : 2;
      return predicted ? 3 : 0;
    });
    return encode(truth, steps, 1);
  }

  return { residual, marks };
})();
