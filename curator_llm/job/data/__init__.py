"""What a job reads and writes: files of rows on paths and stores, cut into pieces; and who may replace an output."""
