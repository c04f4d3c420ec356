"""Model file in, classifier out: header, safety, old formats, preprocessing, logits."""
