// Numbers as the page holds them: base64 of little-endian integers, see embedding.py.

function bytes(text) {
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) out[i] = binary.charCodeAt(i);
  return new DataView(out.buffer);
}

function wholeNumbers(text) {
  const view = bytes(text);
  return Array.from({ length: view.byteLength / 4 }, (_, i) => view.getUint32(4 * i, true));
}

// Percent; null for NaN, which leaves a gap in a line.
function percent(text) {
  const view = bytes(text);
  return Array.from({ length: view.byteLength / 2 }, (_, i) => {
    const value = view.getUint16(2 * i, true);
    return value === 65535 ? null : Math.round(value - 20000) / 100;
  });
}

// Percent, or numbers of a measure in its unit, where `scale` says the size of 1.
function heights(text, scale) {
  const values = percent(text);
  return scale === undefined ? values : values.map((value) => (value === null ? null : (value * scale) / 100));
}

function json(element) {
  return JSON.parse(element.textContent);
}

// Plotly reads some tags and entities in its texts; a name is text.
function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function element(tag, text, kind) {
  const out = document.createElement(tag);
  if (text !== undefined) out.textContent = text;
  if (kind) out.className = kind;
  return out;
}
