// The bell of a panel, or of the page: when the stream names it, it asks for its run.
export default function ({ parentElement: root, data, setTriggerValue }) {
  if (joinTab(data.tab)) answerBell(TAB, data, { root, ring: () => setTriggerValue("rung", Date.now()) });
}
