// All texts of the page, in all languages. Add a language here.
import { kept } from "./storage.js";

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
    lost: "No connection… It goes on listening, and tries again.",
    mute: "The microphone gives no sound. Is it taken by another program, or unplugged?",
    only_first: "Only the first file, {name}, was read.",
    sends_files: "A file that you choose is sent to this server, and kept nowhere.",
    sends_long_files: "Of a short file the fingerprint is computed here, too. A long one, or one that this browser cannot read, is sent to this server, and kept nowhere.",
    draw: "Draw it", drawing: "Drawing…", drawn: "Spectrograms of what was heard and of the track, and how alike they are at each moment.",
    why_there: "Or on the command line:",
    problem_unreadable: "This cannot be read: {detail}.",
    problem_nothing_to_recognise: "There is nothing to recognise in it: {detail}.",
    problem_too_large: "It is too large: {detail}.", problem_too_long: "It is too long: {detail}.",
    problem_too_slow: "It came too slowly. Try again on a better connection.",
    problem_token_needed: "This needs the token of --token-file.",
    problem_changes_off: "This server takes no changes without --token-file.",
    problem_library_unavailable: "The library cannot be used just now. Try again in a moment.",
    problem_not_found: "This is not there: {detail}.", problem_internal: "The server has failed. Its log says why.",
    problem_other_model: "The server has another model now. Load this page again.",
    problem_known_recording: "It is in the library already.",
    problem_log_unavailable: "The log cannot be read. The server's own log says why.",
    problem_no_room: "The server has no room for it. Its own log says why.",
    problem_stopping: "The server is being stopped.", problem_busy: "The server is busy. Try again in a moment.",
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
    why_text: "A picture shows what the answer rests on. To draw it, the seconds that were heard are sent to this server, and kept nowhere.",
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
    lost: "Keine Verbindung… Es hört weiter zu und versucht es noch einmal.",
    mute: "Das Mikrofon gibt keinen Ton. Benutzt es ein anderes Programm, oder ist es abgezogen?",
    only_first: "Nur die erste Datei, {name}, wurde gelesen.",
    sends_files: "Eine Datei, die Sie wählen, geht an diesen Server und wird nirgends behalten.",
    sends_long_files: "Auch von einer kurzen Datei wird der Fingerabdruck hier berechnet. Eine lange, oder eine, die dieser Browser nicht lesen kann, geht an diesen Server und wird nirgends behalten.",
    draw: "Zeichnen", drawing: "Wird gezeichnet…", drawn: "Spektrogramme des Gehörten und des Stücks, und wie ähnlich sie sich in jedem Augenblick sind.",
    why_there: "Oder auf der Kommandozeile:",
    problem_unreadable: "Das lässt sich nicht lesen. Es muss eine Aufnahme mit Ton sein.",
    problem_nothing_to_recognise: "Darin gibt es nichts zu erkennen. Gehen Sie näher an die Musik.",
    problem_too_large: "Das ist zu groß.", problem_too_long: "Das ist zu lang.",
    problem_too_slow: "Das kam zu langsam an. Versuchen Sie es mit einer besseren Verbindung.",
    problem_token_needed: "Dafür braucht es das Token aus --token-file.",
    problem_changes_off: "Ohne --token-file nimmt dieser Server keine Änderungen an.",
    problem_library_unavailable: "Die Sammlung ist gerade nicht zu benutzen. Versuchen Sie es gleich noch einmal.",
    problem_not_found: "Das ist nicht da: {detail}.", problem_internal: "Der Server hat versagt. Sein Protokoll sagt, warum.",
    problem_other_model: "Der Server hat jetzt ein anderes Modell. Laden Sie diese Seite neu.",
    problem_known_recording: "Das ist schon in der Sammlung.",
    problem_log_unavailable: "Das Protokoll ist nicht zu lesen. Das Protokoll des Servers selbst sagt, warum.",
    problem_no_room: "Der Server hat keinen Platz dafür. Sein eigenes Protokoll sagt, warum.",
    problem_stopping: "Der Server wird angehalten.", problem_busy: "Der Server ist ausgelastet. Versuchen Sie es gleich noch einmal.",
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
    why_text: "Ein Bild zeigt, worauf die Antwort beruht. Um es zu zeichnen, gehen die gehörten Sekunden an diesen Server und werden nirgends behalten.",
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
  const wanted = [kept("language"), ...navigator.languages];
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
