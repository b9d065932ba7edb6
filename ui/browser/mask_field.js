// A field for the mask: it takes what the server says, and tells what was entered.
export default function ({ parentElement: root, data, setTriggerValue }) {
  const field = root.querySelector("input");
  const told = JSON.stringify(data);
  if (field.told !== told) {
    field.told = told;
    field.value = data.text;
  }
  field.setAttribute("aria-invalid", String(data.refusal !== ""));
  root.querySelector("p").textContent = data.refusal;
  field.onchange = () => setTriggerValue("asked", field.value);
}
