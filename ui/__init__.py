"""What the pages share: session, jobs, frame and the layer strip. Streamlit lives here and in pages/."""
