"""What it is worth: ABX, PNMI, MAP, sWUGGY, sBLIMP, tSC, statistics, tables, figures."""
