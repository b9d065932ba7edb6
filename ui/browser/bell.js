// The bell of a panel: when the stream names the panel, it asks for its run.
export default function ({ parentElement: root, data, setTriggerValue }) {
  if (joinTab(data.tab)) answerBell(TAB, data, { root, ring: () => setTriggerValue("rung", Date.now()) });
}
