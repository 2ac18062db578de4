// Asks the readiness check again every few seconds, and shows what it says.

const EVERY = 3000; // milliseconds
const announcement = document.getElementById("announcement");

function show(row, { status, latency_ms }) {
  const state = row.querySelector(".state");
  if (state.dataset.status !== status) {
    announcement.textContent = `${row.dataset.backend} is ${status} now.`;
  }
  state.dataset.status = status;
  state.textContent = status;
  row.querySelector(".latency").textContent = latency_ms;
}

async function refresh() {
  try {
    const { backends } = await (await fetch("/health/ready", { cache: "no-store" })).json();
    for (const row of document.querySelectorAll("[data-backend]")) {
      show(row, backends[row.dataset.backend]);
    }
  } catch {
    announcement.textContent = "The service does not answer.";
  }
  setTimeout(refresh, EVERY);
}

if (announcement) {
  setTimeout(refresh, EVERY);
}
