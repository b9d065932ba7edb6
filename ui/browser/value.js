// A value in the header; what is too long has its whole text in a title.
function paintValue({ parentElement: root, data }) {
  const value = root.querySelector(".value");
  value.textContent = value.title = data.words;
}

export default live(paintValue);
