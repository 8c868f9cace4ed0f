// localStorage, or nothing if it is not available (private windows, blocked cookies).
export function kept(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

export function keep(key, value) {
  try { if (value === null) localStorage.removeItem(key); else localStorage.setItem(key, value); } catch { /* until the page is closed */ }
}
