"""History: what stored runs of one machine say of a case over commits, and where its time changed."""
