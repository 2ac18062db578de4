// Asks the readiness check again every few seconds, and shows what it says.

const EVERY = 3000; // milliseconds
const announcement = document.getElementById("announcement");
const rows = document.querySelectorAll("[data-backend]");
let answers = true;

function show(row, { status, latency_ms }) {
  const state = row.querySelector(".state");
  if (state.dataset.status !== status) {
    state.dataset.status = status;
    state.textContent = status;
    // Screen readers say this aloud; they are told of changes only.
    announcement.textContent = `${row.dataset.backend} is ${status} now.`;
  }
  row.querySelector(".latency").textContent = latency_ms;
}

async function refresh() {
  try {
    const { backends } = await (await fetch("/health/ready", { cache: "no-store" })).json();
    rows.forEach((row) => show(row, backends[row.dataset.backend]));
    if (!answers) {
      announcement.textContent = "The service answers again.";
    }
    answers = true;
  } catch {
    if (answers) {
      rows.forEach((row) => show(row, { status: "unknown", latency_ms: "–" }));
      announcement.textContent = "The service does not answer.";
    }
    answers = false;
  }
  setTimeout(refresh, EVERY);
}

if (announcement) {
  setTimeout(refresh, EVERY);
}
