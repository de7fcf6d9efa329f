"""From cells to messages: templates, cell text, chat columns. Pure; knows neither pandas nor servers."""
