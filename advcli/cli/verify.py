import click
command = click.Command("x")
