// How far a piece of work is, in words and as a bar.
function paintProgress({ parentElement: root, data }) {
  const bar = root.querySelector(".progress");
  bar.setAttribute("aria-valuenow", Math.round(100 * data.fraction));
  bar.setAttribute("aria-label", data.words);
  bar.querySelector("span").textContent = data.words;
  bar.querySelector("i").style.width = `${100 * data.fraction}%`;
}

export default live(paintProgress);
