"""What all rooms need: checks of arguments, tables in text, random inputs."""
