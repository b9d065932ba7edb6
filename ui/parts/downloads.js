// Two buttons that press the camera of a plotly figure's toolbar, for the one format or the other.
export default function ({ parentElement: root, data }) {
  const say = root.querySelector("[role=status]");
  for (const button of root.querySelectorAll("button")) {
    const format = button.dataset.format;
    button.onclick = () => {
      const plot = document.querySelector(`.st-key-${CSS.escape(data.plot)} .js-plotly-plot`);
      const camera = plot?.querySelector('.modebar-btn[data-title^="Download plot"]');
      if (!camera) {
        say.textContent = "The figure is not drawn yet.";
        return;
      }
      plot._context.toImageButtonOptions = { format, filename: data.name, scale: format === "png" ? 2 : 1 };
      camera.click();
      say.textContent = "";
    };
  }
}
