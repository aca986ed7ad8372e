"""The paper’s numbers, the runs beside them, and the tables, figures and pages made of both."""
