"""What the class `Result` in `mintkey.queries` is made of: query plans, pages, cursors, chains of methods, writes."""
