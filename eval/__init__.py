"""What it is worth: ABX, PNMI, MAP, sWUGGY, sBLIMP, tSC and other pairs, statistics, tables, figures."""
