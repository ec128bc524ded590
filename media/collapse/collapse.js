// <collapse-player src="folder/">: the collapse by a pitch shift, played without a kernel. Needs data.js beside it, which
// tools/collapse_page.py computes. Everything is drawn at the size it is shown (SVG), so it is sharp on every screen.
"use strict";

const FOLDER = document.currentScript ? document.currentScript.src.replace(/[^/]*$/, "") : "";
const RATE = 16000; // Hz, of what is synthesized here

const signed = k => (k > 0 ? "+" : k < 0 ? "−" : "") + Math.abs(k);
const percent = x => Math.round(100 * x);
const semitones = k => (k === 0 ? "0 (unshifted)" : `${signed(k)} semitone${Math.abs(k) === 1 ? "" : "s"}`);

/** An element of the SVG name space with attributes and text. */
function svg(tag, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

/** The notes [onset ms, offset ms, MIDI pitch] as decaying tones of four partials: a WAV file, as `amt_nb.notes.sonify` makes it. */
function synthesize(notes, seconds) {
  const wave = new Float32Array(Math.round(seconds * RATE));
  for (const [on, off, pitch] of notes) {
    const start = Math.round((on / 1000) * RATE),
      stop = Math.min(Math.round((off / 1000 + 0.05) * RATE), wave.length);
    const hz = 440 * 2 ** ((pitch - 69) / 12),
      end = (off - on) / 1000 + 0.05;
    for (let n = 1; n <= 4 && hz * n < 0.45 * RATE; n++) {
      const weight = 80 / 127 / n ** 1.5,
        step = (2 * Math.PI * hz * n) / RATE;
      for (let i = start; i < stop; i++) {
        const t = (i - start) / RATE;
        wave[i] +=
          weight *
          Math.sin(step * (i - start)) *
          Math.exp(-2 * n * t) *
          Math.min(1, t / 0.004) *
          Math.min(1, Math.max(0, (end - t) / 0.05));
      }
    }
  }
  return wavFile(wave);
}

/** 16-bit WAV of samples, scaled to a peak of 0.8. */
function wavFile(wave) {
  let peak = 0.8;
  for (const x of wave) peak = Math.max(peak, Math.abs(x));
  const view = new DataView(new ArrayBuffer(44 + 2 * wave.length));
  const word = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + 2 * wave.length, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, 2 * RATE, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, "data");
  view.setUint32(40, 2 * wave.length, true);
  wave.forEach((x, i) => view.setInt16(44 + 2 * i, Math.round(((x * 0.8) / peak) * 32767), true));
  return new Blob([view], { type: "audio/wav" });
}

const PAGE = `
<link rel="stylesheet" href="collapse.css">
<section class="player" aria-label="A collapse by a shift, to play with">
  <label class="shift"><span class="name">Shift of the transcriber <output id="shift-out"></output></span>
    <input id="shift" type="range" min="-12" max="12" step="1" value="0"></label>
  <div class="controls">
    <label><span class="name">Piece</span><select id="piece"></select></label>
    <label><span class="name">Labelled share (the anchor) <output id="share-out"></output></span>
      <input id="share" type="range" min="0" max="20" step="1" value="0"></label>
  </div>
  <p class="words" id="words" aria-live="polite"></p>
  <div class="pictures">
    <figure><figcaption>The recording <small>and what is transcribed</small></figcaption><div id="left"></div>
      <ul class="legend"><li><i class="box"></i>played</li><li><i style="color:#3d9bff"></i>transcribed</li></ul></figure>
    <figure><figcaption>What is rendered <small>from the transcription</small></figcaption><div id="right"></div></figure>
  </div>
  <div class="charts">
    <figure><figcaption>What training sees: the loss</figcaption><div id="losses"></div>
      <ul class="legend"><li><i style="color:var(--error)"></i><span id="weight"></span></li><li><i style="color:var(--truth)"></i>whole objective</li></ul></figure>
    <figure><figcaption>What it cannot see: Frame F1 (%)</figcaption><div id="scores"></div>
      <ul class="legend"><li><i style="color:var(--estimate)"></i>Frame F1 of the transcription</li></ul></figure>
  </div>
  <table><thead><tr><th></th><th>now</th><th>at shift 0</th><th>least to greatest</th></tr></thead><tbody id="numbers"></tbody></table>
  <div class="sounds" role="group" aria-label="Three sounds to compare">
    <button type="button" data-sound="recording">▶ the recording</button>
    <button type="button" data-sound="transcribed">▶ what is transcribed</button>
    <button type="button" data-sound="rendered">▶ what is rendered</button>
  </div>
</section>`;

class CollapsePlayer extends HTMLElement {
  connectedCallback() {
    if (this.shadowRoot) return;
    this.base = this.hasAttribute("src") && this.getAttribute("src") ? this.getAttribute("src") : FOLDER;
    this.data = window.COLLAPSE;
    this.attachShadow({ mode: "open" }).innerHTML = PAGE.replace("collapse.css", this.base + "collapse.css");
    this.shadowRoot.addEventListener("keydown", event => event.stopPropagation()); // the arrow keys belong to the slider, not to the page
    this.at = id => this.shadowRoot.getElementById(id);
    this.audio = new Audio();
    this.audio.preload = "none";
    this.audio.addEventListener("ended", () => this.stop());
    for (const piece of this.data.pieces) this.at("piece").add(new Option(piece.name, piece.name));
    for (const id of ["shift", "share"]) this.at(id).addEventListener("input", () => this.update());
    this.at("piece").addEventListener("change", () => {
      this.stop();
      this.draw();
    });
    this.shadowRoot.querySelectorAll("button").forEach(b => b.addEventListener("click", () => this.play(b)));
    this.shadowRoot.querySelector("link").addEventListener("load", () => this.draw());
    new ResizeObserver(() => {
      if (this.clientWidth !== this.width) this.draw();
    }).observe(this);
    this.darkness();
    this.draw();
  }

  /** Follows the page between light and dark. */
  darkness() {
    const look = () => {
      const [r, g, b] = (getComputedStyle(this).color.match(/\d+/g) || [0, 0, 0]).map(Number);
      this.toggleAttribute("dark", r + g + b > 384);
    };
    new MutationObserver(look).observe(document.body, { attributes: true });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", look);
    look();
  }

  get piece() {
    return this.data.pieces[Math.max(0, this.at("piece").selectedIndex)];
  }
  get shift() {
    return Number(this.at("shift").value);
  }
  get share() {
    return Number(this.at("share").value);
  }

  /** Notes of the transcription at the shift, those that fall off the keyboard left out. */
  transcribed() {
    return this.piece.transcribed
      .map(([on, off, pitch]) => [on, off, pitch + this.shift])
      .filter(n => n[2] >= 21 && n[2] <= 108);
  }

  /** The objective at every shift, with `share` twentieths of the piece labelled. */
  totals(share = this.share) {
    const p = this.piece;
    return p.cycle.map((c, i) => p.discriminator[i] + this.data.lambdaCycle * c + p.pairs[share][i]);
  }

  /** Draws everything anew: another piece, another width. */
  draw() {
    this.width = this.clientWidth;
    this.left = this.spectrogram("left", this.piece.recording);
    this.right = this.spectrogram("right", this.piece.rendered[""]);
    this.left.notes = this.left.root.appendChild(svg("g"));
    for (const n of this.piece.truth) this.left.notes.before(this.bar(n, "truth", 2));
    this.losses = null;
    this.scores = this.chart("scores", 100, "%");
    this.at("weight").textContent = `cycle loss × ${this.data.lambdaCycle}, its weight`;
    this.update();
  }

  /** A picture with its axes in the element `id`: {root, image, x, y}; x of milliseconds, y of a pitch. */
  spectrogram(id, file) {
    const { low, high } = this.data,
      width = Math.max(this.at(id).clientWidth, 200),
      height = 232;
    const [l, r, t, b] = [26, 6, 6, 32],
      ms = this.piece.seconds * 1000;
    const x = v => l + (v / ms) * (width - l - r),
      y = p => height - b - ((p - low) / (high - low)) * (height - t - b);
    const root = svg("svg", {
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label":
        id === "left"
          ? "constant-Q spectrogram of the recording, with notes"
          : "constant-Q spectrogram that is rendered",
    });
    const image = root.appendChild(
      svg("image", {
        x: l,
        y: t,
        width: width - l - r,
        height: height - t - b,
        preserveAspectRatio: "none",
        href: this.base + file,
      }),
    );
    for (let p = low; p < high; p += 12)
      root.append(svg("text", { x: l - 5, y: y(p) + 1, "text-anchor": "end" }, `C${p / 12 - 1}`));
    for (let s = 0; s <= this.piece.seconds; s++)
      root.append(svg("text", { x: x(1000 * s), y: height - b + 13, "text-anchor": s ? "middle" : "start" }, s));
    root.append(svg("text", { x: (l + width) / 2, y: height - 4, "text-anchor": "middle" }, "time (s)"));
    this.at(id).replaceChildren(root);
    return { root, image, x, y, top: t, bottom: height - b, file };
  }

  /** A note [onset ms, offset ms, pitch] as a bar of the left picture, `grow` pixels higher than a semitone. */
  bar([on, off, pitch], name, grow = 0) {
    const { x, y } = this.left,
      height = y(0) - y(1) + grow;
    return svg("rect", {
      class: name,
      x: x(on),
      y: y(pitch) - height / 2 - (y(0) - y(1)) / 4,
      width: Math.max(1, x(off) - x(on) - 1),
      height,
      rx: 1,
    });
  }

  /** Axes of a chart over the shifts: {root, x, y, lines}. */
  chart(id, top, unit) {
    const width = Math.max(this.at(id).clientWidth, 200),
      height = 176,
      [l, r, t, b] = [30, 12, 10, 32];
    const x = k => l + ((k + 12) / 24) * (width - l - r),
      y = v => height - b - (v / top) * (height - t - b);
    const root = svg("svg", {
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `${unit} against the shift`,
    });
    for (const v of [0, top / 2, top]) {
      root.append(svg("line", { class: "grid", x1: l, x2: width - r, y1: y(v), y2: y(v) }));
      root.append(svg("text", { x: l - 5, y: y(v) + 4, "text-anchor": "end" }, String(v)));
    }
    for (const k of [-12, -7, 0, 7, 12])
      root.append(svg("text", { x: x(k), y: height - b + 14, "text-anchor": "middle" }, signed(k)));
    root.append(svg("text", { x: (l + width - r) / 2, y: height - 4, "text-anchor": "middle" }, "shift (semitones)"));
    const lines = root.appendChild(svg("g"));
    this.at(id).replaceChildren(root);
    return { root, x, y, lines, limit: top, top: t, bottom: height - b };
  }

  /** A line over the shifts with a dot at each and a large one, with its value, at the current shift. */
  line(chart, values, name, label, below = false) {
    const { x, y, lines } = chart,
      shifts = this.data.shifts,
      i = this.shift + 12;
    lines.append(svg("polyline", { class: name, points: shifts.map((k, j) => `${x(k)},${y(values[j])}`).join(" ") }));
    shifts.forEach((k, j) =>
      lines.append(svg("circle", { class: `${name}-dot`, cx: x(k), cy: y(values[j]), r: j === i ? 5.5 : 1.8 })),
    );
    const right = this.shift < 8;
    const at = Math.min(chart.bottom - 5, Math.max(chart.top + 9, y(values[i]) + (below ? 17 : -8)));
    lines.append(
      svg(
        "text",
        { class: "value", x: x(this.shift) + (right ? 8 : -8), y: at, "text-anchor": right ? "start" : "end" },
        label,
      ),
    );
  }

  /** Everything that follows the sliders. */
  update() {
    const k = this.shift,
      i = k + 12,
      p = this.piece,
      totals = this.totals(),
      share = this.data.shares[this.share];
    const best = totals.indexOf(Math.min(...totals)) - 12;
    this.at("shift-out").textContent = semitones(k);
    this.at("share-out").textContent = `${percent(share)} %`;
    this.at("shift").setAttribute("aria-valuetext", semitones(k));
    this.at("share").setAttribute("aria-valuetext", `${percent(share)} % of the piece has labels`);
    this.at("words").innerHTML =
      `Every note is written ${k === 0 ? "where it was played" : `<b>${Math.abs(k)} semitone${Math.abs(k) === 1 ? "" : "s"} too ${k > 0 ? "high" : "low"}</b>`}: ` +
      `the cycle loss is <b>${p.cycle[i].toFixed(3)}</b>${k === 0 ? "" : `, ${Math.abs(p.cycle[i] - p.cycle[12]) < 5e-4 ? "the same as" : "as against " + p.cycle[12].toFixed(3)} without a shift`}; ` +
      `Frame F1 is <b>${percent(p.f1[i])} %</b>${k === 0 ? "" : `, not ${percent(p.f1[12])} %`}. The objective is least at <b>${signed(best)}</b>.`;
    this.left.notes.replaceChildren(...this.transcribed().map(n => this.bar(n, "note", 1.5)));
    const top = 2 * Math.ceil(Math.max(...totals) * 0.55); // even, so that the axis has whole numbers, with some air
    if (!this.losses || this.losses.limit !== top) this.losses = this.chart("losses", top, "loss");
    const file = p.rendered[String(k)] || p.rendered[""];
    if (file !== this.right.file) this.right.image.setAttribute("href", this.base + (this.right.file = file));
    for (const chart of [this.losses, this.scores]) {
      chart.lines.replaceChildren(
        svg("line", { class: "mark", x1: chart.x(k), x2: chart.x(k), y1: chart.top, y2: chart.bottom }),
      );
    }
    const weighted = p.cycle.map(c => c * this.data.lambdaCycle);
    this.line(this.losses, weighted, "loss", weighted[i].toFixed(2), true);
    this.line(this.losses, totals, "total", totals[i].toFixed(2));
    this.line(
      this.scores,
      p.f1.map(v => 100 * v),
      "f1",
      `${percent(p.f1[i])} %`,
    );
    this.numbers([
      ["cycle loss", p.cycle, 3],
      ["discriminator's term", p.discriminator, 3],
      ["pairs' term (the anchor)", p.pairs[this.share], 3],
      ["whole objective", totals, 3],
      ["Frame F1 (%)", p.f1.map(v => 100 * v), 1],
    ]);
    if (this.playing === "transcribed") this.stop();
    this.dispatchEvent(new CustomEvent("shown"));
  }

  /** The table: each row [name, values at every shift, decimals]. */
  numbers(rows) {
    const cell = (text, name = "") =>
      Object.assign(document.createElement("td"), { textContent: text, className: name });
    this.at("numbers").replaceChildren(
      ...rows.map(([name, values, digits]) => {
        const row = document.createElement("tr"),
          head = Object.assign(document.createElement("th"), { textContent: name, scope: "row" });
        row.append(
          head,
          cell(values[this.shift + 12].toFixed(digits), "now"),
          cell(values[12].toFixed(digits)),
          cell(`${Math.min(...values).toFixed(digits)} – ${Math.max(...values).toFixed(digits)}`),
        );
        return row;
      }),
    );
  }

  /** Plays the sound of a button, or stops it. */
  play(button) {
    const name = button.dataset.sound,
      again = this.playing === name;
    this.stop();
    if (again) return;
    if (name === "transcribed")
      this.audio.src = this.blob = URL.createObjectURL(synthesize(this.transcribed(), this.piece.seconds));
    else this.audio.src = this.base + this.piece.sounds[name];
    this.playing = name;
    button.setAttribute("aria-pressed", "true");
    button.textContent = button.textContent.replace("▶", "■");
    this.audio.play().then(
      () => this.follow(),
      () => this.stop(),
    );
  }

  /** Moves a line over both pictures while a sound plays. */
  follow() {
    if (!this.playing) return;
    for (const picture of [this.left, this.right]) {
      picture.cursor =
        picture.cursor && picture.cursor.isConnected
          ? picture.cursor
          : picture.root.appendChild(svg("line", { class: "cursor", y1: picture.top, y2: picture.bottom }));
      const at = picture.x(Math.min(this.audio.currentTime, this.piece.seconds) * 1000);
      picture.cursor.setAttribute("x1", at);
      picture.cursor.setAttribute("x2", at);
    }
    requestAnimationFrame(() => this.follow());
  }

  /** Ends what is playing. */
  stop() {
    this.audio.pause();
    if (this.blob) {
      URL.revokeObjectURL(this.blob);
      this.blob = null;
    }
    this.playing = null;
    this.shadowRoot.querySelectorAll("button").forEach(b => {
      b.removeAttribute("aria-pressed");
      b.textContent = b.textContent.replace("■", "▶");
    });
    for (const picture of [this.left, this.right]) if (picture && picture.cursor) picture.cursor.remove();
  }
}

customElements.define("collapse-player", CollapsePlayer);
