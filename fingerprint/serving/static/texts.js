// Every text of the page, in every language: the one place to add another one.
export const LANGUAGES = { en: "English", de: "Deutsch" };

const TEXTS = {
  en: {
    skip: "To the content", views: "Views", language: "Language",
    listen: "Listen", library: "Library", log: "Log", api: "HTTP API",
    question: "What is playing?", press: "Listen", stop: "Stop", result: "Result",
    idle: "Press the button near the music.", opening: "Opening the microphone…",
    hearing: "Listening…", maybe: "Listening… it may be:", quiet: "Listening… it is very quiet here.",
    unknown: "Not in this library, as far as {seconds} s tell. Nearer to the loudspeaker, or at another moment?",
    recognised: "{title} recognised.", stopped: "Stopped.",
    no_microphone: "No microphone: the page may not use one, or there is none.",
    insecure: "A browser gives its microphone to https pages only. Start the server with --tls, or choose a file below.",
    no_server: "The server does not answer.",
    busy: "The server is busy. Try again in a moment.",
    options: "How it listens", before: "Listen all the time, and use the seconds before I press",
    before_note: "The last ten seconds stay in this page until you press; nothing is sent before.",
    sends_sound: "The sound of what you let it hear is sent to this server, and kept nowhere.",
    sends_prints: "The fingerprint is computed in this browser. The sound stays on this device.",
    drop: "Or drop a recording here: a snippet, a mix, a broadcast.", choose: "Choose a file",
    reading: "Reading {name}…", scanning: "Reading {name}: {count} found so far…",
    scanned: "{name}: {count} found.", no_match: "{name} is not in this library.",
    history: "Recognised before", forget: "Forget all",
    at: "at {time}", now: "Now at", of: "of {time}", faster: "{percent} % faster", slower: "{percent} % slower",
    sure_4: "as good as certain", sure_3: "very likely", sure_2: "likely", sure_1: "a guess",
    sureness: "{words} ({percent}\u00a0%)", again: "It sounds the same at {times}.",
    why: "Why this answer?",
    why_text: "Save what was heard, and let the command line draw what the answer rests on:",
    save: "Save the snippet", unknown_span: "unknown", untitled: "Untitled",
    search: "Search title, artist, album", found: "{count} shown", none: "Nothing found.", more: "Show more",
    change: "Add or remove music", token: "Token", upload: "Upload recordings",
    token_note: "Of --token-file; it stays in this tab. None is needed on the server's own machine.",
    uploading: "{name}: sending…", uploaded: "{name}: added.", known: "{name}: in the library already.",
    failed: "{name}: {why}", remove: "Remove", remove_name: "Remove {name}",
    sure_remove: "Remove {name} from the library?", removed: "{name} is removed.",
    csv: "Save the log as CSV", live: "Live: what is recognised appears here.",
    broken: "Not connected; trying again…", empty_log: "Nothing was recognised yet.",
  },
  de: {
    skip: "Zum Inhalt", views: "Ansichten", language: "Sprache",
    listen: "Hören", library: "Sammlung", log: "Protokoll", api: "HTTP-API",
    question: "Was läuft gerade?", press: "Hören", stop: "Anhalten", result: "Ergebnis",
    idle: "Drücken Sie den Knopf nahe an der Musik.", opening: "Mikrofon wird geöffnet…",
    hearing: "Hört zu…", maybe: "Hört zu… vielleicht ist es:", quiet: "Hört zu… es ist sehr leise hier.",
    unknown: "Nicht in dieser Sammlung, soweit {seconds} s es zeigen. Näher am Lautsprecher, oder an anderer Stelle?",
    recognised: "{title} erkannt.", stopped: "Angehalten.",
    no_microphone: "Kein Mikrofon: die Seite darf keines benutzen, oder es gibt keines.",
    insecure: "Ein Browser gibt sein Mikrofon nur an https-Seiten. Starten Sie den Server mit --tls, oder wählen Sie unten eine Datei.",
    no_server: "Der Server antwortet nicht.",
    busy: "Der Server ist ausgelastet. Versuchen Sie es gleich noch einmal.",
    options: "Wie sie zuhört", before: "Immer zuhören, und die Sekunden vor dem Drücken nutzen",
    before_note: "Die letzten zehn Sekunden bleiben in dieser Seite, bis Sie drücken; vorher wird nichts gesendet.",
    sends_sound: "Der Klang dessen, was Sie hören lassen, geht an diesen Server und wird nirgends behalten.",
    sends_prints: "Der Fingerabdruck wird in diesem Browser berechnet. Der Klang bleibt auf diesem Gerät.",
    drop: "Oder ziehen Sie eine Aufnahme hierher: einen Schnipsel, einen Mix, eine Sendung.", choose: "Datei wählen",
    reading: "Liest {name}…", scanning: "Liest {name}: {count} bisher gefunden…",
    scanned: "{name}: {count} gefunden.", no_match: "{name} ist nicht in dieser Sammlung.",
    history: "Früher erkannt", forget: "Alles vergessen",
    at: "bei {time}", now: "Jetzt bei", of: "von {time}", faster: "{percent} % schneller", slower: "{percent} % langsamer",
    sure_4: "so gut wie sicher", sure_3: "sehr wahrscheinlich", sure_2: "wahrscheinlich", sure_1: "geraten",
    sureness: "{words} ({percent}\u00a0%)", again: "Genauso klingt es bei {times}.",
    why: "Warum diese Antwort?",
    why_text: "Sichern Sie, was gehört wurde, und lassen Sie die Kommandozeile zeichnen, worauf die Antwort beruht:",
    save: "Schnipsel sichern", unknown_span: "unbekannt", untitled: "Ohne Titel",
    search: "Titel, Künstler, Album suchen", found: "{count} gezeigt", none: "Nichts gefunden.", more: "Mehr zeigen",
    change: "Musik hinzufügen oder entfernen", token: "Token", upload: "Aufnahmen hochladen",
    token_note: "Aus --token-file; es bleibt in diesem Tab. Auf dem Rechner des Servers ist keines nötig.",
    uploading: "{name}: wird gesendet…", uploaded: "{name}: hinzugefügt.", known: "{name}: schon in der Sammlung.",
    failed: "{name}: {why}", remove: "Entfernen", remove_name: "{name} entfernen",
    sure_remove: "{name} aus der Sammlung entfernen?", removed: "{name} ist entfernt.",
    csv: "Protokoll als CSV sichern", live: "Live: was erkannt wird, erscheint hier.",
    broken: "Nicht verbunden; neuer Versuch…", empty_log: "Noch nichts erkannt.",
  },
};

let language = "en";

export function chosen() { return language; }

export function preferred() {
  const wanted = [localStorage.getItem("language"), ...navigator.languages];
  return wanted.map((one) => one?.slice(0, 2)).find((one) => one in TEXTS) ?? "en";
}

export function t(key, values = {}) {
  const text = TEXTS[language][key] ?? TEXTS.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export function speak(next) {
  language = next;
  document.documentElement.lang = next;
  for (const one of document.querySelectorAll("[data-t]")) one.textContent = t(one.dataset.t);
  for (const one of document.querySelectorAll("[data-t-label]")) one.setAttribute("aria-label", t(one.dataset.tLabel));
}
