"use strict";
// Sends one GET with the token that was pasted, and shows the answer as text.
document.getElementById("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const status = document.getElementById("status");
  const answer = document.getElementById("answer");
  const path = document.getElementById("path").value.trim();
  const token = document.getElementById("token").value.trim();
  answer.textContent = "";
  if (/\d{11}/.test(decodeURIComponent(path.replace(/%(?![0-9a-fA-F]{2})/g, "%25")).replace(/[0-9a-fA-F]{32}/g, ""))) {
    status.textContent = "Not sent: eleven digits in a row may be a person's number.";
    return;
  }
  const url = new URL(path, location.origin);
  if (url.origin !== location.origin) {
    status.textContent = "Not sent: that is another address than this broker's.";
    return;
  }
  status.textContent = "Sent; waiting for the answer…";
  try {
    const headers = token ? { Authorization: "Bearer " + token } : {};
    const got = await fetch(url, { headers, credentials: "omit", redirect: "error", cache: "no-store" });
    let text = await got.text();
    if ((got.headers.get("Content-Type") || "").includes("json")) {
      try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* as it came */ }
    }
    answer.textContent = text.length > 200000 ? text.slice(0, 200000) + "\n… and more" : text;
    status.textContent = "The answer is " + got.status + " " + got.statusText + ".";
  } catch (err) {
    status.textContent = "No answer: " + err.message;
  }
});
