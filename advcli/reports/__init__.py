"""A summary as text: one module per format, each with one function.

    render(summary, **how) -> str

terminal is for people, json_report, csv_report and markdown for files and pipes, html_report (with
pictures) to be read and handed over. `files` chooses by extension and writes whole files or none.
`evidence` makes a folder of a finished run: what was done, with hashes, and a model card.
"""
